"""States: how many files of the ledger are in which, and why."""

from collections import Counter
from collections.abc import Sequence

from stages.core.tables import STATUSES, IndexRow


def count_states(rows: Sequence[IndexRow]) -> list[tuple[str, str, int]]:
    """Return `status, reason, files`, the most frequent first; of duplicates the path is left out."""
    counts = Counter((row.status, "" if row.status == "duplicate" else row.reason) for row in rows)
    return sorted(((*key, count) for key, count in counts.items()), key=lambda row: (-row[2], row))


def describe_states(rows: Sequence[IndexRow]) -> str:
    """Return the sums in one line, such as `398 files = 397 ok + 1 skipped`."""
    counts = Counter(row.status for row in rows)
    assert counts.total() == sum(counts[status] for status in STATUSES), "every file is in exactly one state"
    sums = " + ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return f"{len(rows)} files = {sums}" if rows else "0 files"
