"""Label fixes: a small file for each data set in which people correct labels. The photos stay where they are."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath

from headstart.base.csv_files import csv_style, read_foreign_csv, write_table
from headstart.base.errors import DataError

DROP = "drop"


@dataclass(frozen=True)
class LabelFix:
    """The correction of one image's label, or the declaration of a class.

    Attributes:
        digest: sha256 of the image's file; may be empty if there is a path.
        path: Path of the image as in the index; may be empty if there is a digest. Both are empty in a row that
            declares a class which no folder and no table names.
        label: Name of the right class, or `drop` to leave the image out.
        who: Who decided; may be empty.
        when: Time of the decision, as ISO 8601 with seconds in UTC (2026-01-31T12:00:00Z); may be empty.
        why: Reason; may be empty.
    """

    digest: str
    path: str
    label: str
    who: str = ""
    when: str = ""
    why: str = ""

    @property
    def declares_class(self) -> bool:
        """Whether the row declares a class and fixes no image."""
        return not self.digest and not self.path


_COLUMNS = ["digest", "path", "label", "who", "when", "why"]


def label_fixes_path(setting: str, data_path: str) -> Path:
    """Return the file of label fixes of a data set.

    Args:
        setting: `split.label_fixes`: a CSV file, or a folder that has a file for each data set.
        data_path: `data.path`. The file in the folder has its path, without a leading `data/`: that of `data/my/photos`
            is `my/photos.csv`.
    """
    if setting.lower().endswith(".csv"):
        return Path(setting)
    parts = [part for part in PurePosixPath(data_path).parts if part not in ("/", "..", ".")]
    below = parts[1:] if parts[0] == "data" and len(parts) > 1 else parts
    return Path(setting, *below[:-1], f"{below[-1]}.csv")


def read_label_fixes(path: Path) -> list[LabelFix]:
    """Read label fixes, in the order of the file.

    Args:
        path: Path of the file. One that is missing has no fixes.

    Raises:
        DataError: The file cannot be read, has other columns, or a row lacks a label.
    """
    if not path.exists():
        return []
    header, lines = read_foreign_csv(path, "", is_told=False)  # the columns must be these, so no guess can be wrong
    if header != _COLUMNS:
        raise DataError(f"{path}: columns are {header}; expected {_COLUMNS}. Correct the first line and the rows.")
    for number, line in lines.items():
        if not line[header.index("label")]:
            raise DataError(f"{path}: row {number} is {line}; expected a label. Fill or remove the row.")
    return [LabelFix(*line) for line in lines.values()]


def write_label_fixes(path: Path, fixes: Iterable[LabelFix]) -> None:
    """Write label fixes, whole or not at all. Equal fixes give equal bytes, if no file was there.

    The rows are in the order of their digests, so that git merges what two people added, unless both fixed the same
    image. A file that a spreadsheet wrote keeps its separator, line ends and byte order mark.

    Raises:
        OSError: The file cannot be written, or the one that is there cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    style = csv_style(path) if path.exists() else None
    write_table(path, _COLUMNS, sorted(map(astuple, fixes)), style)
