"""Bursts: photos that one camera took in quick succession stay together."""

import hashlib
import random
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from headstart.base.errors import DataError
from headstart.tables.index import IndexRow, seconds_between
from stages.split import results
from stages.split.bursts import find_bursts
from stages.split.fixes import apply_fixes
from stages.split.layout import read_layout
from stages.split.partition import partition
from tests.conftest import index_of
from tests.unit.stages.test_split import FIXES, divide, sides, split_params

NOON = datetime.fromisoformat("2024-05-01T12:00:00")


def photo(name: str, tenths: int | None, camera: str = "A", label: str = "a") -> IndexRow:
    """Return the index row of a photo, taken some tenths of a second after noon; None if it does not say when."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    taken = "" if tenths is None else (NOON + timedelta(seconds=tenths / 10)).isoformat()
    return IndexRow(f"{label}/{name}.jpg", digest, "JPEG", 8, 8, "ok", "", camera, taken)


def together(rows: list[IndexRow], seconds: float) -> set[frozenset[str]]:
    """Return the bursts, as sets of digests."""
    found = defaultdict(set)
    for digest, burst in find_bursts(rows, seconds).items():
        found[burst].add(digest)
    return {frozenset(digests) for digests in found.values()}


photos = st.lists(
    st.tuples(st.none() | st.integers(0, 300), st.sampled_from(["", "A", "A 1"])), min_size=1, max_size=30
).map(lambda drawn: [photo(str(number), tenths, camera) for number, (tenths, camera) in enumerate(drawn)])


@given(photos, st.sampled_from([0.1, 0.5, 1.0, 2.0]))
def test_bursts_are_chains_of_neighbours(rows: list[IndexRow], seconds: float) -> None:
    """Two photos are in one burst exactly if a chain of photos joins them, each less than the threshold apart."""
    chains = {row.digest: frozenset([row.digest]) for row in rows}
    for one in rows:
        for other in rows:
            gap = seconds_between(one, other)
            if gap is not None and gap < seconds:
                joined = chains[one.digest] | chains[other.digest]
                chains |= dict.fromkeys(joined, joined)

    assert together(rows, seconds) == set(chains.values())


@given(photos, st.randoms(use_true_random=False))
def test_the_order_of_the_photos_changes_no_burst(rows: list[IndexRow], order: random.Random) -> None:
    """Shuffled rows, also with copies among them, give the same names to the same images."""
    shuffled = [*rows, *(replace(row, path=f"copy of {row.path}", status="duplicate") for row in rows[:3])]
    order.shuffle(shuffled)

    assert find_bursts(shuffled, 1.0) == find_bursts(rows, 1.0)


def test_the_threshold_itself_separates() -> None:
    """Photos exactly as far apart as the threshold are two bursts; a tenth of a second less makes one."""
    assert len(together([photo("x", 0), photo("y", 100)], 10.0)) == 2
    assert len(together([photo("x", 0), photo("y", 99)], 10.0)) == 1
    assert len(together([photo("x", 0), photo("y", 0)], 0.001)) == 1


def test_cameras_and_images_without_time_stay_apart() -> None:
    """Two cameras at the same moment are two bursts, and so is each image without a time, by its digest."""
    rows = [photo("x", 0, "A"), photo("y", 0, "B"), photo("z", None, "A"), photo("w", None, "A")]
    found = find_bursts(rows, 10.0)

    assert len(set(found.values())) == 4
    assert found[rows[2].digest] == rows[2].digest
    assert found[rows[0].digest] == "A 2024-05-01T12:00:00"


def test_a_burst_is_never_divided() -> None:
    """Drawn with exif-burst, photos of a burst are in one split, also if they are of several classes."""
    rows = [
        photo(f"{label}{burst}-{number}", 1000 * burst + 5 * number, label=label)
        for label in "ab"
        for burst in range(12)
        for number in range(3)
    ]
    by_burst = divide(rows, group="exif-burst")
    without = divide(rows)

    assert {len(splits) for splits in sides(by_burst.rows).values()} == {1}
    assert len(sides(by_burst.rows)) == 12  # the bursts of both classes begin at the same moments
    group_of = {row.digest: row.group for row in by_burst.rows}
    torn = sides([replace(row, group=group_of[row.digest]) for row in without.rows])
    assert max(len(splits) for splits in torn.values()) == 2


def test_photos_without_a_time_are_counted() -> None:
    """The stage says how many images have no time, and how many groups have several images."""
    rows = [photo(f"{label}{number}", None, label=label) for label in "ab" for number in range(4)]
    rows += [photo(f"b{number}", 5 * number, label="b") for number in range(10, 13)]
    params = split_params(group="exif-burst")
    layout = read_layout(rows, [], params)
    parted = partition(layout, params)
    fixed = apply_fixes(parted, rows, [], FIXES, "fail")
    text = results.describe(rows, parted, ["a", "b"], fixed, layout.notes)

    assert "groups of two or more images: 1; the largest has 3" in text
    assert "WARNING: split.group is exif-burst, but 8 of 11 images do not say when they were taken" in text
    assert "the first 'a/a0.jpg'" in text


def test_given_splits_that_tear_a_burst_are_refused() -> None:
    """If the folders put a burst into two splits, the message says which and what to do."""
    rows = [
        replace(photo(f"{label}{split}{number}", 5 * number, label=label), path=f"{split}/{label}/{number}.jpg")
        for split in ("train", "test")
        for label in "ab"
        for number in range(2)
    ]

    with pytest.raises(DataError, match="1 group.s. are divided, the first 'A 2024-05-01T12:00:00'.*stratified"):
        divide(rows, group="exif-burst")


def test_photos_from_files_to_splits(tmp_path: Path) -> None:
    """JPEG files of bursts, read by the index, are never divided by the split; a copy without EXIF is on its own."""
    noise = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / label).mkdir()
        for burst in range(6):
            for number in range(3):
                exif = Image.Exif()
                exif[ExifTags.Base.Model] = f"camera {label}"
                taken = NOON + timedelta(minutes=burst, seconds=4 * number)
                details: dict[int, str] = {ExifTags.Base.DateTimeOriginal: taken.strftime("%Y:%m:%d %H:%M:%S")}
                exif.get_ifd(ExifTags.IFD.Exif).update(details)
                pixels = noise.integers(0, 256, (8, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / label / f"{burst}{number}.jpg", exif=exif)
        Image.fromarray(pixels).save(tmp_path / label / "plain.png")
    rows = divide(index_of(tmp_path), group="exif-burst", burst_seconds=5.0).rows
    groups = {Path(row.path).stem: row.group for row in rows if row.label == "a"}

    assert {len(splits) for splits in sides(rows).values()} == {1}
    assert len(sides(rows)) == 2 * 7
    assert groups["00"] == groups["01"] == groups["02"] == "camera a 2024-05-01T12:00:00"
    assert groups["plain"] == next(row.digest for row in rows if row.path == "a/plain.png")
