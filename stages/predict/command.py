"""The command: what its words mean, and the work from sources to an output."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from stages.core.errors import DataError
from stages.core.files import sha256_json
from stages.core.progress import Progress
from stages.predict.model import Model, load
from stages.predict.outputs import FORMATS, Journal, Record, lines_of, record_of, write_records
from stages.predict.sources import Source, find_sources, load_each

_FLUSH_EVERY = 64


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{self.prog.rpartition('.')[2]}: {message}. {self.prog} --help lists all options.\n")


@dataclass(frozen=True)
class Asked:
    """What the words of the command line ask for."""

    bundle: Path
    inputs: Sequence[str]
    kind: str
    output: Path | None
    num_top: int
    device: str
    batch: int | None
    weights: Path | None
    strict: bool


def parse(words: Sequence[str]) -> Asked:
    """Read the command line; a mistake in it is one line, and exit code 2."""
    parser = Parser(prog="python -m stages.predict", description="Predict the classes of images by a bundle.")
    parser.add_argument("bundle", type=Path, help="folder of a model, such as models/head")
    parser.add_argument(
        "inputs", nargs="+", metavar="input", help="photo, folder, 'pattern*', .zip, .tar, or - for a list of paths"
    )
    parser.add_argument("--format", choices=FORMATS, help="default: by the output's name, else a table")
    parser.add_argument("--output", type=Path, metavar="FILE", help="written whole or not at all; a killed job goes on")
    parser.add_argument("--top", type=_at_least(1), default=1, metavar="K", help="so many classes of each image")
    parser.add_argument("--batch", type=_at_least(2), metavar="N", help="pictures in a forward pass")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of the backbone, where they are not found")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if any image cannot be read")
    given = parser.parse_args(words)
    kind = given.format or (given.output.suffix[1:].lower() if given.output else "table")
    if kind not in FORMATS:
        parser.error(f"--output {given.output}: its name tells no format; expected .csv, .jsonl, .parquet or --format")
    if kind == "parquet" and given.output is None:
        parser.error("--format parquet needs --output FILE")
    return Asked(
        bundle=given.bundle,
        inputs=given.inputs,
        kind=kind,
        output=given.output,
        num_top=given.top,
        device=given.device,
        batch=given.batch,
        weights=given.weights,
        strict=given.strict,
    )


def run(asked: Asked) -> str:
    """Predict all images and print or write the rows.

    Returns:
        What to say at the end.

    Raises:
        BundleError, DataError, ParamsError: Before anything is predicted.
    """
    if asked.output is not None and asked.output.is_dir():
        raise DataError(f"--output {asked.output}: is a folder; expected a file")
    sources = find_sources(asked.inputs, sys.stdin.buffer)
    model = load(asked.bundle, device=asked.device, batch=asked.batch, num_images=len(sources), weights=asked.weights)
    num_top = min(asked.num_top, len(model.classes))
    counts = {"quarantined": 0}

    def counted(records: Iterator[Record]) -> Iterator[Record]:
        with Progress("predict", len(sources), "image") as progress:
            for record in records:
                counts["quarantined"] += record["status"] == "quarantined"
                yield record
                progress.advance(1)

    if asked.output is None:
        predicted = (record_of(one, num_top) for one in model.predict_each(load_each(sources)))
        for line in lines_of(counted(predicted), asked.kind, num_top):
            sys.stdout.write(line)
            sys.stdout.flush()
    else:
        journal = Journal(asked.output, {"model": model.digest, "config": _config(model), "top": num_top})
        try:
            records = list(counted(_resumed(model, sources, journal, num_top)))
            write_records(asked.output, records, asked.kind, num_top)
        except BaseException:
            journal.close()
            raise
        journal.remove()
    where = "" if asked.output is None else f" -> {asked.output}"
    bad = f", {counts['quarantined']} of them cannot be read" * bool(counts["quarantined"])
    summary = f"{len(sources)} images{bad}{where}"
    if asked.strict and counts["quarantined"]:
        raise DataError(f"{summary} (--strict)")
    return summary


def _config(model: Model) -> str:
    """Two bundles may have the same tensors and other classes."""
    return sha256_json({"classes": list(model.classes), "temperature": model.bundle.temperature})


def _resumed(model: Model, sources: Sequence[Source], journal: Journal, num_top: int) -> Iterator[Record]:
    """Give every source's record, in order: from the journal, or predicted now and written into it."""
    stamps = [_stamp(source) for source in sources]
    known = [journal.find(source.name, stamp) for source, stamp in zip(sources, stamps, strict=True)]
    new = [source for source, record in zip(sources, known, strict=True) if record is None]
    if len(new) < len(sources):
        print(f"predict: {len(sources) - len(new)} of {len(sources)} images are in {journal.path}", file=sys.stderr)
    predicted = model.predict_each(load_each(new))
    for number, (source, stamp, kept) in enumerate(zip(sources, stamps, known, strict=True)):
        record = kept or record_of(next(predicted), num_top)
        if kept is None:
            journal.add(source.name, stamp, record)
        if number % _FLUSH_EVERY == 0:
            journal.flush()
        yield record


def _stamp(source: Source) -> list[int]:
    try:
        found = source.path.stat()
    except (OSError, ValueError):
        return []
    return [found.st_size, found.st_mtime_ns, -1 if source.member is None else source.member]


def _at_least(least: int) -> Callable[[str], int]:
    def number(word: str) -> int:
        value = int(word)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return number
