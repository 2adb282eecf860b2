"""The project: what the stages found out about the images, as one snapshot."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.base.csv_files import read_table
from headstart.base.errors import TableError
from headstart.base.params import Name, Section, read_section
from headstart.review.comparison import HeadResults
from headstart.sources.folder import Folder, open_source
from headstart.sources.params import DataParams
from headstart.tables.classes import read_classes
from headstart.tables.head import LabelSuspect, NearDuplicate
from headstart.tables.index import USABLE, IndexRow
from headstart.tables.label_fixes import label_fixes_path
from headstart.tables.predictions import Predictions, read_predictions
from headstart.tables.rows import read_rows
from headstart.tables.split import RelabelledRow, SplitRow


@dataclass(frozen=True, slots=True)
class ReviewImage:
    """An image as people see it.

    Attributes:
        digest: sha256 of the file; empty if the file was not read.
        path: Path of the image, as in the index.
        label: Name of its class; empty if it has none.
        split: `train`, `val` or `test`; empty if the image is in none of them.
        width: Width in pixels; 0 if the file was not decoded.
        height: Height in pixels; 0 if the file was not decoded.
    """

    digest: str
    path: str
    label: str
    split: str
    width: int
    height: int


@dataclass(frozen=True)
class Scores:
    """What one track thinks of images that it was not trained on.

    Attributes:
        digests: (N,) digests, ascending.
        rows: Row of each image, by digest.
        classes: (C,) names, in the order of the columns.
        probabilities: float32 (N, C).
    """

    digests: Sequence[str]
    rows: Mapping[str, int]
    classes: Sequence[str]
    probabilities: NDArray[np.float32]

    def top(self, digest: str, num: int) -> list[tuple[str, float]]:
        """Return the most probable classes of an image with their probabilities; nothing for an unknown image."""
        if digest not in self.rows:
            return []
        row = self.probabilities[self.rows[digest]]
        return [(self.classes[column], float(row[column])) for column in np.argsort(-row, kind="stable")[:num]]

    def of(self, digest: str, label: str) -> float | None:
        """Return the probability of a class for an image; None if the image or the class is unknown."""
        if digest not in self.rows or label not in self.classes:
            return None
        return float(self.probabilities[self.rows[digest], self.classes.index(label)])


@dataclass(frozen=True)
class Ranked:
    """An unlabelled image in the order in which labels help most.

    Attributes:
        digest: sha256 of the file.
        predicted: Name of the most probable class.
        probability: Probability of this class, in [0, 1].
    """

    digest: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Project:
    """What is known about the images of a project.

    Attributes:
        root: Folder of the project.
        data_set: `data.path`.
        source: Where the images are.
        fixes_path: File of the label fixes.
        lock_path: File to lock while somebody writes them, beside what `split.label_fixes` names.
        max_pixels: Largest width x height that is decoded.
        images: Every usable image, by digest, in the order of the digests.
        digests: Digest of each usable image and copy, by path.
        decidable: Digests of images whose label a fix may set.
        given: Label before any fix, by digest, of images whose label a fix has changed; empty if copies had several.
        quarantined: Files that are not used, with their reasons.
        classes: Names of the classes, in the order of the logits.
        scores: Scores by track. The head has all labelled images, the fine-tuned network those of the test set.
        tested: Digests of the test images that the head has predicted.
        head: What this head is compared by with the next one.
        suspects: Training images with doubtful labels, the least probable label first.
        near_duplicates: Test images that look like training images.
        next_to_label: Unlabelled images, the most useful first.
    """

    root: Path
    data_set: str
    source: Folder
    fixes_path: Path
    lock_path: Path
    max_pixels: int
    images: Mapping[str, ReviewImage]
    digests: Mapping[str, str]
    decidable: frozenset[str]
    given: Mapping[str, str]
    quarantined: Sequence[IndexRow]
    classes: Sequence[str]
    scores: Mapping[str, Scores]
    tested: frozenset[str]
    head: HeadResults
    suspects: Sequence[LabelSuspect]
    near_duplicates: Sequence[NearDuplicate]
    next_to_label: Sequence[Ranked]


class _SplitSettings(Section, extra="ignore"):
    label_fixes: Name


class _IndexSettings(Section, extra="ignore"):
    max_pixels: int


def read_project(root: Path) -> Project:
    """Read the results of a project.

    The fine-tuned network and the unlabelled images may be missing; then their queues are empty.

    Raises:
        ParamsError: A setting is missing or wrong.
        TableError: A result is missing or damaged. The message says which command writes it.
    """
    params = root / "params.yaml"
    data = read_section(params, "data", DataParams)
    split = read_section(params, "split", _SplitSettings)
    index = read_section(params, "index", _IndexSettings)
    rows = read_rows(root / "data/index.csv", IndexRow)
    labelled = {row.digest: row for row in read_rows(root / "data/split.csv", SplitRow)}
    test = read_predictions(root / "predictions/head.csv")
    suspects = read_rows(root / "diagnostics/head/label_suspects.csv", LabelSuspect)
    out_of_fold = read_predictions(root / "predictions/head_out_of_fold.csv")
    scores = {"head": _join(test, out_of_fold)}
    tuned = root / "predictions/finetune.csv"
    if tuned.is_file():
        scores["finetune"] = _join(read_predictions(tuned))
    return Project(
        root=root,
        data_set=data.path,
        source=open_source(str(root / data.path)),
        fixes_path=root / label_fixes_path(split.label_fixes, data.path),
        lock_path=(root / split.label_fixes).with_name(f".{Path(split.label_fixes).name}.lock"),
        max_pixels=index.max_pixels,
        images=_images(rows, labelled),
        digests={row.path: row.digest for row in rows if row.status in (*USABLE, "duplicate")},
        decidable=frozenset(labelled) | _pool(root),
        given={row.digest: row.given for row in read_rows(root / "diagnostics/relabelled.csv", RelabelledRow)},
        quarantined=[row for row in rows if row.status == "quarantined"],
        classes=read_classes(root / "data/classes.json"),
        scores=scores,
        tested=frozenset(test.digests),
        head=HeadResults(test, [row.digest for row in suspects]),
        suspects=suspects,
        near_duplicates=read_rows(root / "diagnostics/head/near_duplicates.csv", NearDuplicate),
        next_to_label=_next_to_label(root),
    )


def _images(rows: Sequence[IndexRow], labelled: Mapping[str, SplitRow]) -> dict[str, ReviewImage]:
    images: dict[str, ReviewImage] = {}
    for row in sorted((row for row in rows if row.status in USABLE), key=lambda row: row.digest):
        found = labelled.get(row.digest)
        path, label, split = (found.path, found.label, found.split) if found else (row.path, "", "")
        images[row.digest] = ReviewImage(row.digest, path, label, split, row.width, row.height)
    return images


def _join(*tables: Predictions) -> Scores:
    digests = [digest for table in tables for digest in table.digests]
    order = sorted(range(len(digests)), key=digests.__getitem__)
    probabilities = np.concatenate([table.probabilities.astype(np.float32) for table in tables])[order]
    ascending = [digests[place] for place in order]
    return Scores(ascending, {one: row for row, one in enumerate(ascending)}, tables[0].classes, probabilities)


def _pool(root: Path) -> frozenset[str]:
    return frozenset(line["digest"] for line in _optional_table(root / "data/pool.csv", "digest"))


def _next_to_label(root: Path) -> list[Ranked]:
    path = root / "diagnostics/head/next_to_label.csv"
    lines = _optional_table(path, "digest", "predicted", "probability")
    return [Ranked(line["digest"], line["predicted"], float(line["probability"])) for line in lines]


def _optional_table(path: Path, *columns: str) -> Iterable[dict[str, str]]:
    """Return the rows of a table by column; nothing if the file does not exist."""
    if not path.is_file():
        return []
    header, lines = read_table(path, "Run: dvc repro head")
    if not set(columns) <= set(header):
        raise TableError(f"{path}: columns are {header}; expected {', '.join(columns)} among them. Run: dvc repro head")
    return (dict(zip(header, line, strict=True)) for line in lines)
