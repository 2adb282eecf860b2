"""Losses: what a run of `index` must say aloud, because a class would get smaller or duller without a word."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from headstart.tables.index import USABLE, IndexRow, LabelRow
from stages.index.examination import ONE_COLOUR

# A class that loses a larger fraction of its files is named.
_MOST_LOST = 0.1
_MOST_CLASSES = 10
_MOST_EXTENSIONS = 5
_HIDDEN = "hidden"


def describe_losses(rows: Sequence[IndexRow], labels: Sequence[LabelRow]) -> Iterator[str]:
    """Give a line for each class of which more than a tenth of the files cannot be used, the largest loss first.

    Hidden files and duplicates are no loss.

    Args:
        rows: The index.
        labels: Rows of the user's table. If there are any, a class is a label and its files are those of the table;
            otherwise a class is a folder with the files directly in it.
    """
    label_of = {row.path: row.label for row in labels}
    num_files: Counter[str] = Counter()
    lost: dict[str, list[IndexRow]] = defaultdict(list)
    for row in rows:
        name = _class_of(row.path, label_of)
        if not name or row.reason == _HIDDEN:
            continue
        num_files[name] += 1
        if row.status in ("skipped", "quarantined"):
            lost[name].append(row)
    found = [name for name, some in lost.items() if len(some) > _MOST_LOST * num_files[name]]
    found.sort(key=lambda name: (-len(lost[name]), name))
    what = "class" if labels else "folder"
    for name in found[:_MOST_CLASSES]:
        yield (
            f"index: WARNING: {what} {name!r}: {len(lost[name])} of {num_files[name]} files are not used "
            f"({_describe_files(lost[name])})"
        )
    if len(found) > _MOST_CLASSES:
        yield f"index: WARNING: and {len(found) - _MOST_CLASSES} more; data/index.csv has a reason for each file"


def describe_one_colour(rows: Sequence[IndexRow]) -> Iterator[str]:
    """Give a line with the number of used pictures that have one colour, if there are any."""
    dull = [row.path for row in rows if row.status in USABLE and row.reason.endswith(ONE_COLOUR)]
    if dull:
        yield f"index: {len(dull)} of the pictures that are used have one colour only, such as {dull[0]!r}"


def _class_of(path: str, label_of: Mapping[str, str]) -> str:
    """Return the class of a file; empty if it has none."""
    return label_of.get(path, "") if label_of else path.rpartition("/")[0]


def _describe_files(rows: Sequence[IndexRow]) -> str:
    """Return the number of files by status and extension in words, such as `12 skipped: .heic`."""
    counts = Counter((row.status, _extension(row.path)) for row in rows)
    shown = [f"{count} {status}: {extension}" for (status, extension), count in counts.most_common(_MOST_EXTENSIONS)]
    rest = counts.total() - sum(count for _, count in counts.most_common(_MOST_EXTENSIONS))
    return ", ".join([*shown, *[f"{rest} others"] * bool(rest)])


def _extension(path: str) -> str:
    _, dot, extension = path.rpartition("/")[2].rpartition(".")
    return f".{extension.lower()}" if dot else "no extension"
