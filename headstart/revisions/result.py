"""The result: two revisions compared, each track on the images of both, and what differs between them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headstart.revisions.changes import Changes, find_changes
from headstart.revisions.comparison import TrackComparison, compare_track
from headstart.revisions.revision import Revision
from headstart.tables.names import TRACKS
from headstart.tables.pairs import pair


@dataclass(frozen=True)
class Result:
    """Two revisions compared.

    Attributes:
        before: Title of the first revision.
        after: Title of the second revision.
        tracks: The tracks that both have.
        only_before: Names of tracks that only the first has.
        only_after: Names of tracks that only the second has.
        changes: What differs in what the tracks depend on.
    """

    before: str
    after: str
    tracks: Sequence[TrackComparison]
    only_before: Sequence[str]
    only_after: Sequence[str]
    changes: Changes

    @property
    def is_worse(self) -> bool:
        """Whether the second revision is significantly worse in some track."""
        return any(track.verdict == "worse" for track in self.tracks)

    def document(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        tracks = [{**asdict(track), "verdict": track.verdict} for track in self.tracks]
        return {**asdict(self), "tracks": tracks, "is_worse": self.is_worse}


def compare_revisions(before: Revision, after: Revision, num_resamples: int, seed: int) -> Result:
    """Compare two revisions.

    Args:
        before: First revision.
        after: Second revision.
        num_resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.
    """
    common = [track for track in TRACKS if track in before.runs and track in after.runs]
    return Result(
        before=before.title,
        after=after.title,
        tracks=[
            compare_track(
                track, pair(before.runs[track].predictions, after.runs[track].predictions), num_resamples, seed
            )
            for track in common
        ],
        only_before=[track for track in before.runs if track not in after.runs],
        only_after=[track for track in after.runs if track not in before.runs],
        changes=find_changes(before, after, common),
    )
