"""The text: comparisons and rankings for a terminal, or as Markdown for a pull request."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tabulate import tabulate

from headstart.base.terminal import printable
from headstart.revisions.changes import Changes
from headstart.revisions.comparison import ClassChange, Difference, ImageChange, TrackComparison
from headstart.revisions.ranking import Ranked, Ranking
from headstart.revisions.result import Result

# Most images, classes and params that are listed; --json has all.
_MOST_LISTED = 20

Escape = Callable[[str], str]


class Writer:
    """Writes headings, sentences and tables.

    Args:
        is_markdown: Whether they are Markdown; else they are plain text.
    """

    def __init__(self, *, is_markdown: bool) -> None:
        self._is_markdown = is_markdown
        self._blocks: list[str] = []

    @property
    def text(self) -> str:
        """All that was written."""
        return "\n\n".join(self._blocks) + "\n"

    def escaped(self, text: str) -> str:
        """Return text of files, labels and params, so that neither a terminal nor Markdown obeys it.

        In Markdown it becomes code, where `@name` calls nobody and a label is no link.
        """
        shown = printable(text)
        if not self._is_markdown:
            return shown
        fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
        space = " " if shown.startswith("`") or shown.endswith("`") else ""
        return f"{fence}{space}{shown}{space}{fence}"

    def heading(self, text: str) -> None:
        """Write a heading; its text is escaped already."""
        self._blocks.append(f"### {text}" if self._is_markdown else text)

    def lines(self, lines: Iterable[str]) -> None:
        """Write sentences, each in a line of its own; they are escaped already."""
        if found := list(lines):
            self._blocks.append("\n".join(f"- {line}" for line in found) if self._is_markdown else "\n".join(found))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], most: int | None = _MOST_LISTED) -> None:
        """Write a table, whose cells are escaped already; nothing where it has no rows.

        Args:
            header: Names of the columns.
            rows: Cells of each row.
            most: Most rows that are listed; None for all.
        """
        if not rows:
            return
        if self._is_markdown:  # a bar would end the cell, even in code
            header, *rows = ([cell.replace("|", "\\|") for cell in row] for row in (header, *rows))
        # Names stand at the left, numbers at the right.
        align = ["left", *("right" if _is_number(cell) else "left" for cell in rows[0][1:])]
        table = tabulate(
            [list(row) for row in rows[:most]],
            list(header),
            tablefmt="github" if self._is_markdown else "simple",
            colalign=align,
            disable_numparse=True,
            preserve_whitespace=True,
        )
        more = len(rows) - len(rows[:most])
        self._blocks.append(f"{table}\n\n... and {more} more (--json lists all)" if more > 0 else table)


def comparison_text(result: Result, *, is_markdown: bool) -> str:
    """Return a comparison as text."""
    writer = Writer(is_markdown=is_markdown)
    writer.heading(f"{writer.escaped(result.before)} -> {writer.escaped(result.after)}")
    for name, tracks in ((result.before, result.only_before), (result.after, result.only_after)):
        writer.lines(f"{track}: only {writer.escaped(name)} has it" for track in tracks)
    for track in result.tracks:
        _write_track(writer, track, result)
    _write_changes(writer, result.changes)
    return writer.text


def ranking_text(rankings: Sequence[Ranking], *, is_markdown: bool) -> str:
    """Return rankings as text."""
    writer = Writer(is_markdown=is_markdown)
    for ranking in rankings:
        baseline = writer.escaped(ranking.baseline)
        writer.heading(f"{ranking.track}: against {baseline}")
        if not ranking.rows:
            writer.lines(["There is no test image that all have: nothing to compare"])
            continue
        header = ("revision", "accuracy (95 %)", f"minus {baseline} (95 %)", "p", "p, corrected")
        writer.table(header, [_ranked_row(writer, row) for row in ranking.rows], most=None)
        writer.lines(_ranking_sentences(writer, ranking))
    return writer.text


def _ranked_row(writer: Writer, row: Ranked) -> tuple[str, ...]:
    accuracy = f"{row.accuracy:.4f} ({row.low:.4f} to {row.high:.4f})"
    if row.difference is None or row.p_value is None or row.p_holm is None:
        return writer.escaped(row.name), accuracy, "baseline", "", ""
    difference = f"{row.difference:+.4f} ({row.difference_low:+.4f} to {row.difference_high:+.4f})"
    return writer.escaped(row.name), accuracy, difference, f"{row.p_value:.2g}", f"{row.p_holm:.2g}"


def _ranking_sentences(writer: Writer, ranking: Ranking) -> Iterator[str]:
    baseline = writer.escaped(ranking.baseline)
    if ranking.num_images < ranking.num_tested:
        yield (
            f"The test sets differ: all have only {ranking.num_images} of the {ranking.num_tested} test images of "
            f"{baseline}. Name fewer revisions to compare more images"
        )
    yield (
        f"On the {ranking.num_images} test images that all have. p: exact McNemar test; corrected by Holm's method for "
        f"the number of comparisons, {len(ranking.rows) - 1}, because the best of many is lucky"
    )
    for word, sign in (("better", 1), ("worse", -1)):
        names = [writer.escaped(row.name) for row in ranking.rows if row.is_significant and sign * _gain(row) > 0]
        yield f"Clearly {word} than {baseline}: {', '.join(names) or 'none'}"


def _gain(row: Ranked) -> float:
    return row.difference or 0.0


def _write_track(writer: Writer, track: TrackComparison, result: Result) -> None:
    before, after = writer.escaped(result.before), writer.escaped(result.after)
    if track.accuracy is None or track.p_value is None:
        writer.heading(f"{track.track}: nothing to compare")
        writer.lines(_limits(track, before, after))
        return
    writer.heading(f"{track.track}: {track.verdict} (p {track.p_value:.2g}, exact McNemar test)")
    # First of all, that the test sets differ.
    writer.lines(_limits(track, before, after))
    scores = (("accuracy", track.accuracy), ("log loss (nats)", track.log_loss))
    rows = [_score_row(name, one) for name, one in (*scores, ("calibration error", track.calibration_error)) if one]
    writer.table(("", before, after, "difference (95 %)"), rows)
    header = ("class", "images", "right before", "right after", "newly right", "newly wrong")
    writer.table(header, [_class_row(writer, one) for one in track.classes if one.is_moved])
    for title, images in (("newly wrong", track.newly_wrong), ("newly right", track.newly_right)):
        writer.table((title, "label", "before", "after"), [_image_row(writer, image) for image in images])


def _limits(track: TrackComparison, before: str, after: str) -> Iterator[str]:
    """Give a sentence for everything that limits the comparison."""
    if track.num_only_before or track.num_only_after:
        yield (
            f"The test sets differ: {track.num_only_before} images only at {before}, {track.num_only_after} only at "
            f"{after}. Compared are the {track.num_images} images of both"
        )
    else:
        yield f"{track.num_images} test images, the same at both"
    if track.num_relabelled:
        yield f"{track.num_relabelled} of them have another label now. Right is what {after} says"
    if track.num_new_classes:
        yield f"{track.num_new_classes} are of a class that one of the two does not know; only accuracy counts them"


def _score_row(name: str, score: Difference) -> tuple[str, ...]:
    interval = "" if score.low is None else f" ({score.low:+.4f} to {score.high:+.4f})"
    return name, f"{score.before:.4f}", f"{score.after:.4f}", f"{score.difference:+.4f}{interval}"


def _class_row(writer: Writer, one: ClassChange) -> tuple[str, ...]:
    numbers = (one.num_images, one.num_right_before, one.num_right_after, one.newly_right, one.newly_wrong)
    return writer.escaped(one.name), *map(str, numbers)


def _image_row(writer: Writer, image: ImageChange) -> tuple[str, ...]:
    answers = ((image.before, image.confidence_before), (image.after, image.confidence_after))
    cells = (f"{writer.escaped(name)} {confidence:.2f}" for name, confidence in answers)
    return writer.escaped(image.path), writer.escaped(image.label), *cells


def _write_changes(writer: Writer, changes: Changes) -> None:
    writer.heading("What differs")
    lines, rows = list(change_sentences(changes, writer.escaped)), param_rows(changes, writer.escaped)
    writer.lines(lines)
    writer.table(("param", "before", "after"), rows)
    if not lines and not rows:
        writer.lines(["Nothing: params, code, data and images are the same"])


def param_rows(changes: Changes, escape: Escape) -> list[tuple[str, ...]]:
    """Return name, value before and value after of each param that differs."""
    return [tuple(escape(_value(cell)) for cell in (one.name, one.before, one.after)) for one in changes.params]


def change_sentences(changes: Changes, escape: Escape) -> Iterator[str]:
    """Give a sentence, without a stop, for each kind of difference besides params.

    Args:
        changes: What differs.
        escape: Function that escapes names and values.
    """
    for name, params in changes.edited.items():
        if params:
            yield (
                f"{escape(name)} is out of date: its params.yaml has other values of {escape(', '.join(params))} than "
                "its results. Run there: dvc repro"
            )
    if changes.images is None:
        yield "Images: unknown, because data/split.csv of one of the two is neither in DVC's cache nor in its remote"
    else:
        numbers = {
            "added": changes.images.num_added,
            "removed": changes.images.num_removed,
            "relabelled": changes.images.num_relabelled,
            "moved between training and test": changes.images.num_moved,
        }
        if any(numbers.values()):
            yield f"Images: {', '.join(f'{num} {word}' for word, num in numbers.items() if num)}"
        if changes.images.num_leaked:
            num = changes.images.num_leaked
            yield f"{num} images that are tested now were trained on before; they are not compared"
    if changes.sources:
        yield f"Code and data: {escape(', '.join(changes.sources))}"


def _value(value: Any) -> str:  # noqa: ANN401 - a value of params.yaml
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in ("+", "-")
