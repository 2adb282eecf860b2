"""Bursts: photos that one camera took in quick succession. They show almost the same, so they belong together."""

from collections.abc import Iterable
from itertools import pairwise

from headstart.tables.index import IndexRow, seconds_between


def find_bursts(rows: Iterable[IndexRow], seconds: float) -> dict[str, str]:
    """Return the name of the burst of each image, by digest.

    A photo belongs to the burst of the photo before it of the same camera if less than `seconds` lie between the two.
    So a burst may last longer than that. A burst is named after its camera and its first photo. An image without a time
    is on its own and named by its digest.

    Args:
        rows: Rows of images in the index, in any order; copies may be among them.
        seconds: Smallest time between two bursts of a camera, in seconds.
    """
    images = {row.digest: row for row in rows}
    timed = sorted((row for row in images.values() if row.taken), key=lambda row: (row.camera, row.taken))
    bursts = {digest: digest for digest, row in images.items() if not row.taken}
    for row in timed[:1]:
        bursts[row.digest] = _name(row)
    for before, row in pairwise(timed):
        gap = seconds_between(before, row)
        bursts[row.digest] = bursts[before.digest] if gap is not None and gap < seconds else _name(row)
    return bursts


def _name(first: IndexRow) -> str:
    return f"{first.camera} {first.taken}".strip()
