"""The command `headstart predict BUNDLE INPUT...`: from the inputs of a command line to rows or a gallery."""

import io
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.base.errors import DataError
from headstart.base.progress import Progress
from headstart.predict.commands.parser import Parser, integer_from
from headstart.predict.inputs import InputImage, find_inputs, load_inputs
from headstart.predict.journal import Journal, file_stamp
from headstart.predict.model import Model, load
from headstart.predict.outputs import (
    FORMATS,
    Record,
    check_format,
    check_output,
    format_lines,
    make_record,
    write_records,
)

_FLUSH_EVERY = 64


@dataclass(frozen=True)
class PredictOptions:
    """Parsed options of `headstart predict`; the fields have the names of the options."""

    bundle: Path
    weights: Path | None
    device: str
    photos: Path | None
    inputs: Sequence[str]
    format: str
    output: Path | None
    top: int
    coverage: float | None
    explain: Path | None
    batch: int | None
    strict: bool


def main(words: Sequence[str]) -> None:
    """Parse the command line, predict, and print how many images could not be read."""
    options = parse(words)  # before the process is changed: --help and a mistake end here
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader of the output, such as `head`, may stop early
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files may have letters that the terminal cannot show
    summary = run(options)
    print(f"predict: {summary}", file=sys.stderr)


def parse(words: Sequence[str]) -> PredictOptions:
    """Parse the command line; exit with code 2 and one line if it has a mistake."""
    parser = Parser(prog="headstart predict", description="Predict the classes of images.")
    parser.add_bundle()
    parser.add_device()
    parser.add_photos()
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="input",
        help="image, folder, 'pattern*', .zip, .tar, or - for a list of paths on standard input",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: the suffix of --output, or a table without it")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="file to write; the same command resumes a job that was killed"
    )
    parser.add_argument(
        "--top", type=integer_from(1), default=1, metavar="K", help="list the K most probable classes of each image"
    )
    parser.add_argument(
        "--coverage",
        type=float,
        metavar="F",
        help="answer this fraction of images like the training images, and call the others unknown",
    )
    parser.add_argument(
        "--explain", type=Path, metavar="FOLDER", help="new folder for a page of heat maps and nearest training images"
    )
    parser.add_argument("--batch", type=integer_from(2), metavar="N", help="images in a forward pass")
    parser.add_argument("--strict", action="store_true", help="exit with code 1 if any image cannot be read")
    given = parser.parse_args(words)
    given.format = given.format or (given.output.suffix[1:].lower() if given.output else "table")
    if given.format not in FORMATS:
        suffixes = ", ".join(f".{name}" for name in FORMATS if name != "table")
        parser.error(f"--output {given.output}: its suffix is no format; expected one of {suffixes}, or --format")
    if given.explain is not None and given.output is not None:
        parser.error("--output cannot be used with --explain, which writes a page and prints the rows")
    if given.explain is None and given.photos is not None:
        parser.error("--photos can only be used with --explain")
    if FORMATS[given.format].lines is None and given.output is None:
        parser.error(f"--format {given.format} needs --output FILE")
    return PredictOptions(**vars(given))


def run(options: PredictOptions) -> str:
    """Predict all images, and print or write the rows or the gallery.

    Returns:
        A summary for the end of the job.

    Raises:
        BundleError, DataError, ParamsError: A mistake that is found before any image is predicted, or, with --strict,
            an image that cannot be read.
    """
    check_format(options.format)
    inputs = find_inputs(options.inputs, sys.stdin.buffer)
    if options.output is not None:
        check_output(options.output, inputs, options.bundle)
    if options.explain is not None:
        from headstart.predict.gallery import check_gallery  # imports torch, which takes seconds

        check_gallery(options.explain, options.photos, len(inputs))
    model = load(
        options.bundle, device=options.device, batch=options.batch, num_images=len(inputs), weights=options.weights
    )
    model.thresholds(options.coverage)  # raises for a wrong coverage before anything is printed or written
    if options.explain is not None:
        num_bad, where = _write_gallery(options, options.explain, model, inputs)
    elif options.output is not None:
        num_bad, where = _write_output(options, options.output, model, inputs)
    else:
        num_bad, where = _print_rows(options, model, inputs)
    bad = f", {num_bad} of which cannot be read" * bool(num_bad)
    summary = f"{len(inputs)} image{'s' * (len(inputs) > 1)}{bad}{where}"
    if options.strict and num_bad:
        raise DataError(f"{summary} (--strict)")
    return summary


class _Counter:
    """Passes records on, shows the progress and counts the images that could not be read."""

    def __init__(self, num_images: int) -> None:
        self.num_bad, self._num_images = 0, num_images

    def count(self, records: Iterator[Record]) -> Iterator[Record]:
        """Give the records unchanged."""
        with Progress("predict", self._num_images, "image") as progress:
            for record in records:
                self.num_bad += record["status"] == "quarantined"
                yield record
                progress.advance(1)


def _write_gallery(
    options: PredictOptions, folder: Path, model: Model, inputs: Sequence[InputImage]
) -> tuple[int, str]:
    """Print the rows and write the gallery; return the number of bad images and where the page is."""
    from headstart.predict.gallery import write_gallery
    from headstart.predict.pages import NUM_NEAREST

    num_top = _num_top(options, model)
    predictions = model.predict(load_inputs(inputs), coverage=options.coverage, num_nearest=NUM_NEAREST)
    records = (make_record(prediction, num_top) for prediction in predictions)
    sys.stdout.writelines(format_lines(records, options.format, num_top))
    images = load_inputs(inputs)  # once more, because those of an archive would not all fit into memory
    write_gallery(
        folder, model, images, predictions, photos=options.photos, weights=options.weights, name=str(options.bundle)
    )
    return sum(prediction.logits is None for prediction in predictions), f" -> {folder / 'index.html'}"


def _print_rows(options: PredictOptions, model: Model, inputs: Sequence[InputImage]) -> tuple[int, str]:
    """Print each row as soon as it is known; return the number of bad images, and nothing about a file."""
    counter, num_top = _Counter(len(inputs)), _num_top(options, model)
    predictions = model.predict_each(load_inputs(inputs), coverage=options.coverage)
    records = counter.count(make_record(prediction, num_top) for prediction in predictions)
    for line in format_lines(records, options.format, num_top):
        sys.stdout.write(line)
        sys.stdout.flush()
    return counter.num_bad, ""


def _write_output(options: PredictOptions, path: Path, model: Model, inputs: Sequence[InputImage]) -> tuple[int, str]:
    """Write the output file, with a journal until it is written; return the number of bad images and the file."""
    counter, num_top = _Counter(len(inputs)), _num_top(options, model)
    journal = Journal(path, {"model": model.digest, "top": num_top, "coverage": options.coverage})
    try:
        records = list(counter.count(_resume(model, inputs, journal, num_top, options.coverage)))
        write_records(path, records, options.format, num_top)
    except BaseException:
        journal.close()
        raise
    journal.remove()
    return counter.num_bad, f" -> {path}"


def _num_top(options: PredictOptions, model: Model) -> int:
    return min(options.top, len(model.classes))


def _resume(
    model: Model, inputs: Sequence[InputImage], journal: Journal, num_top: int, coverage: float | None
) -> Iterator[Record]:
    """Give the record of every image in order: from the journal, or predicted now and added to the journal."""
    stamps = [file_stamp(image) for image in inputs]
    known = [journal.find(image.name, stamp) for image, stamp in zip(inputs, stamps, strict=True)]
    new = [image for image, record in zip(inputs, known, strict=True) if record is None]
    if len(new) < len(inputs):
        print(
            f"predict: resuming: {len(inputs) - len(new)} of {len(inputs)} images are in {journal.path}",
            file=sys.stderr,
        )
    predictions = model.predict_each(load_inputs(new), coverage=coverage)
    for number, (image, stamp, kept) in enumerate(zip(inputs, stamps, known, strict=True)):
        record = kept or make_record(next(predictions), num_top)
        if kept is None and record["status"] != "quarantined":  # the next run may be able to read the image
            journal.add(image.name, stamp, record)
        if number % _FLUSH_EVERY == 0:
            journal.flush()
        yield record
