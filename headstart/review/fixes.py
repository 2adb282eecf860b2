"""Fixes: what the file of label fixes holds, by image.

The reason of a fix (`why`) tells where it was made: `suspects`, `wrong; test set`, or `accepted; random` where the
label was found right.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field

from headstart.tables.label_fixes import LabelFix

ACCEPTED, TEST_SET = "accepted", "test set"
_SEPARATOR = "; "


@dataclass(frozen=True)
class Fixes:
    """What the file of fixes holds.

    Attributes:
        rows: All rows, in the order of the file.
        by_digest: Rows of each image that the index knows, by digest: one, or several that contradict each other.
        declared: Names of classes that rows declare.
    """

    rows: Sequence[LabelFix] = ()
    by_digest: Mapping[str, Sequence[LabelFix]] = field(default_factory=dict)
    declared: Sequence[str] = ()

    def of(self, digest: str) -> LabelFix | None:
        """Return the fix of an image, the latest if there are several; None if there is none."""
        rows = self.by_digest.get(digest)
        return max(rows, key=lambda fix: fix.when) if rows else None

    def latest(self) -> dict[str, LabelFix]:
        """Return the fix of each image that has one, by digest."""
        return {digest: fix for digest in self.by_digest if (fix := self.of(digest)) is not None}


def reason(queue: str, *, accepted: bool, test_set: bool) -> str:
    """Return the reason of a fix: the queue, and whether the label was right and the image is in the test set."""
    parts = [ACCEPTED] * accepted + [queue] * bool(queue) + [TEST_SET] * test_set
    return _SEPARATOR.join(parts)


def says(fix: LabelFix, part: str) -> bool:
    """Whether the reason of a fix has a part, such as `accepted`, `test set` or the name of a queue."""
    return part in fix.why.split(_SEPARATOR)


def fix_id(fix: LabelFix) -> str:
    """Return the name of a fix, 16 hex digits."""
    return hashlib.sha256("\0".join(astuple(fix)).encode()).hexdigest()[:16]
