"""The command `headstart export BUNDLE OUTPUT`: a model for other runtimes, or with all that it needs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

_MOST_CHECKED = 64


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; a mistake in it is one line, and exit code 2."""
    from headstart.predict.command import Parser

    parser = Parser(prog="headstart export", description="Write a bundle in another form.")
    parser.add_model()
    parser.add_argument("output", type=Path, help="file, or with --self-contained a folder that is not there yet")
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--to", choices=("onnx", "torch"), help="for ONNX Runtime, or a program of torch.export")
    form.add_argument("--self-contained", action="store_true", help="a bundle with the backbone's weights in it")
    parser.add_argument(
        "--check", nargs="+", metavar="INPUT", help=f"photos or a folder; {_MOST_CHECKED} of them are compared (--to)"
    )
    given = parser.parse_args(words)
    if given.self_contained and given.check:
        parser.error("--check goes with --to: with --self-contained the bundle computes what it computed before")
    if given.to and not given.check:
        parser.error("--to needs --check INPUT...: some photos on which both must agree")
    return given


def main(words: Sequence[str]) -> None:
    """Export, and say what was checked."""
    given = parse(words)

    from headstart.predict import export as exporting
    from headstart.predict.inputs import find_sources
    from headstart.predict.model import load
    from headstart.predict.outputs import check_output

    sources = find_sources(given.check, sys.stdin.buffer) if given.to else []
    check_output(given.output, sources, given.bundle)
    model = load(given.bundle, device="cpu", weights=given.weights)
    if given.self_contained:
        exporting.export_self_contained(model, given.output, given.weights)
        print(f"export: {given.output}: the bundle with the weights of {model.bundle.spec['backbone']}")
        return
    images = exporting.choose(sources, _MOST_CHECKED)
    write = exporting.export_onnx if given.to == "onnx" else exporting.export_torch
    difference = write(model, given.output, images, given.weights)
    print(f"export: {given.output}: on {len(images)} images its logits differ by {difference:.1g} at most")
