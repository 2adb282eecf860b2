"""The command `headstart export BUNDLE OUTPUT`: a bundle for other runtimes, or with the weights of its backbone."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.predict.commands.parser import Parser
from headstart.predict.export import FORMATS, check_destination, choose_images, export_model, export_self_contained
from headstart.predict.inputs import find_inputs
from headstart.predict.model import load
from headstart.predict.outputs import check_output

_MAX_CHECKED = 64


@dataclass(frozen=True)
class ExportOptions:
    """Parsed options of `headstart export`; the fields have the names of the options."""

    bundle: Path
    weights: Path | None
    output: Path
    to: str | None
    self_contained: bool
    check: Sequence[str] | None


def main(words: Sequence[str]) -> None:
    """Parse the command line, export, and print how far the export differs from the bundle."""
    run(parse(words))


def parse(words: Sequence[str]) -> ExportOptions:
    """Parse the command line; exit with code 2 and one line if it has a mistake."""
    parser = Parser(prog="headstart export", description="Write a bundle in another form.")
    parser.add_bundle()
    parser.add_argument("output", type=Path, help="file to write; with --self-contained a folder that does not exist")
    form = parser.add_mutually_exclusive_group(required=True)
    meanings = ", ".join(f"{name} ({meaning})" for name, (_, meaning) in FORMATS.items())
    form.add_argument("--to", choices=FORMATS, help=f"format of the file: {meanings}")
    form.add_argument(
        "--self-contained", action="store_true", help="write a bundle that holds the backbone's weights too"
    )
    parser.add_argument(
        "--check",
        nargs="+",
        metavar="INPUT",
        help=f"images or folders; with --to up to {_MAX_CHECKED} images are compared before the file is written",
    )
    given = parser.parse_args(words)
    if given.self_contained and given.check:
        parser.error("--check can only be used with --to: --self-contained changes nothing in what the bundle computes")
    if given.to and not given.check:
        parser.error("--to needs --check INPUT...: some images on which the export must agree with the bundle")
    return ExportOptions(**vars(given))


def run(options: ExportOptions) -> None:
    """Export the bundle.

    Raises:
        BundleError, DataError: As `check_destination`, `find_inputs`, `check_output`, `load`, `export_model` and
            `export_self_contained`.
    """
    check_destination(options.output, is_folder=options.self_contained)
    inputs = find_inputs(options.check, sys.stdin.buffer) if options.check else []
    check_output(options.output, inputs, options.bundle)
    model = load(options.bundle, device="cpu", weights=options.weights)
    if options.to is None:
        export_self_contained(model, options.output, options.weights)
        print(f"export: {options.output}: the bundle with the weights of {model.bundle.spec['backbone']}")
        return
    images = choose_images(model, inputs, _MAX_CHECKED)
    difference = export_model(model, options.to, options.output, images, options.weights)
    print(f"export: {options.output}: its logits differ by at most {difference:.1g} on {len(images)} images")
