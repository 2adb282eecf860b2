"""The command: what its words mean, and the work from sources to an output."""

import argparse
import io
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from headstart.base.errors import DataError
from headstart.base.progress import Progress
from headstart.predict.inputs import Source, find_sources, load_each
from headstart.predict.model import Model, load
from headstart.predict.outputs import FORMATS, Journal, Record, check_output, lines_of, record_of, write_records

_FLUSH_EVERY = 64


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line, and knows the words that several commands take."""

    def add_model(self) -> None:
        """Take the model and what it may need."""
        self.add_argument("bundle", type=Path, help="folder of a model, such as models/head")
        self.add_argument("--weights", type=Path, metavar="FILE", help="of the backbone, where they are not found")

    def add_surroundings(self) -> None:
        """Take where the model runs, and what it was trained on."""
        self.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
        self.add_argument("--photos", type=Path, metavar="FOLDER", help="the training images (data.path), to show them")

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{self.prog.rpartition(' ')[2]}: {message}. {self.prog} --help lists all options.\n")


@dataclass(frozen=True)
class Asked:
    """What the words of the command line ask for."""

    bundle: Path
    inputs: Sequence[str]
    kind: str
    output: Path | None
    num_top: int
    coverage: float | None
    explain: Path | None
    photos: Path | None
    device: str
    batch: int | None
    weights: Path | None
    strict: bool


def main(words: Sequence[str]) -> None:
    """Read the command line, predict, and say how many images could not be read."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads the output may stop reading
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files may have letters that a terminal has not
    summary = run(parse(words))
    print(f"predict: {summary}", file=sys.stderr)


def parse(words: Sequence[str]) -> Asked:
    """Read the command line; a mistake in it is one line, and exit code 2."""
    parser = Parser(prog="headstart predict", description="Predict the classes of images by a bundle.")
    parser.add_model()
    parser.add_surroundings()
    parser.add_argument(
        "inputs", nargs="+", metavar="input", help="photo, folder, 'pattern*', .zip, .tar, or - for a list of paths"
    )
    parser.add_argument("--format", choices=FORMATS, help="default: by the output's name, else a table")
    parser.add_argument("--output", type=Path, metavar="FILE", help="written whole or not at all; a killed job goes on")
    parser.add_argument("--top", type=at_least(1), default=1, metavar="K", help="so many classes of each image")
    parser.add_argument(
        "--coverage",
        type=float,
        metavar="F",
        help="fraction of images like the training images to answer; rest: unknown",
    )
    parser.add_argument("--explain", type=Path, metavar="FOLDER", help="write heat maps and nearest training images to")
    parser.add_argument("--batch", type=at_least(2), metavar="N", help="pictures in a forward pass")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if any image cannot be read")
    given = parser.parse_args(words)
    kind = given.format or (given.output.suffix[1:].lower() if given.output else "table")
    if kind not in FORMATS:
        parser.error(f"--output {given.output}: its name tells no format; expected .csv, .jsonl, .parquet or --format")
    if given.explain is not None and given.output is not None:
        parser.error("--explain writes a page and prints the rows; --output goes without it")
    if given.explain is None and given.photos is not None:
        parser.error("--photos goes with --explain")
    if kind == "parquet" and given.output is None:
        parser.error("--format parquet needs --output FILE")
    return Asked(
        bundle=given.bundle,
        inputs=given.inputs,
        kind=kind,
        output=given.output,
        num_top=given.top,
        coverage=given.coverage,
        explain=given.explain,
        photos=given.photos,
        device=given.device,
        batch=given.batch,
        weights=given.weights,
        strict=given.strict,
    )


def run(asked: Asked) -> str:
    """Predict all images, and print or write the rows or the gallery.

    Returns:
        What to say at the end.

    Raises:
        BundleError, DataError, ParamsError: Before anything is predicted; or at the end, if it is to be strict.
    """
    sources = find_sources(asked.inputs, sys.stdin.buffer)
    if asked.output is not None:
        check_output(asked.output, sources, asked.bundle)
    if asked.explain is not None:
        from headstart.predict.explain import check_gallery  # which imports torch

        check_gallery(asked.explain, asked.photos, len(sources))
    model = load(asked.bundle, device=asked.device, batch=asked.batch, num_images=len(sources), weights=asked.weights)
    if asked.explain is not None:
        num_bad, where = _explain(asked, asked.explain, model, sources)
    else:
        num_bad, where = _list(asked, model, sources)
    bad = f", {num_bad} of which cannot be read" * bool(num_bad)
    summary = f"{len(sources)} image{'s' * (len(sources) > 1)}{bad}{where}"
    if asked.strict and num_bad:
        raise DataError(f"{summary} (--strict)")
    return summary


def _explain(asked: Asked, folder: Path, model: Model, sources: Sequence[Source]) -> tuple[int, str]:
    from headstart.predict.explain import NUM_NEAREST, write_gallery

    images = list(load_each(sources))
    predictions = model.predict(images, coverage=asked.coverage, num_nearest=NUM_NEAREST)
    num_top = min(asked.num_top, len(model.classes))
    sys.stdout.writelines(lines_of((record_of(one, num_top) for one in predictions), asked.kind, num_top))
    write_gallery(
        folder, model, images, predictions, photos=asked.photos, weights=asked.weights, name=str(asked.bundle)
    )
    return sum(one.logits is None for one in predictions), f" -> {folder / 'index.html'}"


def _list(asked: Asked, model: Model, sources: Sequence[Source]) -> tuple[int, str]:
    """Print or write the rows; return the number of images without a picture, and where the rows are."""
    num_top, num_bad = min(asked.num_top, len(model.classes)), 0
    model.thresholds(asked.coverage)  # refused before anything is written

    def counted(records: Iterator[Record]) -> Iterator[Record]:
        nonlocal num_bad
        with Progress("predict", len(sources), "image") as progress:
            for record in records:
                num_bad += record["status"] == "quarantined"
                yield record
                progress.advance(1)

    if asked.output is None:
        predicted = model.predict_each(load_each(sources), coverage=asked.coverage)
        for line in lines_of(counted(record_of(one, num_top) for one in predicted), asked.kind, num_top):
            sys.stdout.write(line)
            sys.stdout.flush()
        return num_bad, ""
    journal = Journal(asked.output, _key(asked, model, num_top))
    try:
        records = list(counted(_resumed(model, sources, journal, num_top, asked.coverage)))
        write_records(asked.output, records, asked.kind, num_top)
    except BaseException:
        journal.close()
        raise
    journal.remove()
    return num_bad, f" -> {asked.output}"


def _key(asked: Asked, model: Model, num_top: int) -> dict[str, Any]:
    """Return what rows depend on besides the images."""
    return {"model": model.digest, "top": num_top, "coverage": asked.coverage}


def _resumed(
    model: Model, sources: Sequence[Source], journal: Journal, num_top: int, coverage: float | None
) -> Iterator[Record]:
    """Give every source's record, in order: from the journal, or predicted now and written into it."""
    stamps = [_stamp(source) for source in sources]
    known = [journal.find(source.name, stamp) for source, stamp in zip(sources, stamps, strict=True)]
    new = [source for source, record in zip(sources, known, strict=True) if record is None]
    if len(new) < len(sources):
        print(f"predict: {len(sources) - len(new)} of {len(sources)} images are in {journal.path}", file=sys.stderr)
    predicted = model.predict_each(load_each(new), coverage=coverage)
    for number, (source, stamp, kept) in enumerate(zip(sources, stamps, known, strict=True)):
        record = kept or record_of(next(predicted), num_top)
        if kept is None and record["status"] != "quarantined":  # the next run may be able to read it
            journal.add(source.name, stamp, record)
        if number % _FLUSH_EVERY == 0:
            journal.flush()
        yield record


def _stamp(source: Source) -> list[int]:
    try:
        found = source.path.stat()
    except (OSError, ValueError):
        return []
    member = -1 if source.member is None else source.member
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, member]


def at_least(least: int) -> Callable[[str], int]:
    """Return what reads a whole number of an option, and refuses one below `least`."""

    def number(word: str) -> int:
        value = int(word)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return number
