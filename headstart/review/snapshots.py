"""Snapshots: the results that the page shows, replaced when there are new ones that belong together."""

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from headstart.base.errors import DataError, HeadstartError
from headstart.review import outputs
from headstart.review.comparison import HeadResults
from headstart.review.decisions import Decisions
from headstart.review.neighbours import Neighbours
from headstart.review.project import Project, read_project
from headstart.review.queues import Queue, make_queues


@dataclass(frozen=True)
class Snapshot:
    """A project with what is computed from it once.

    Attributes:
        project: The project.
        neighbours: Finds neighbours by the project's features.
        queues: All queues but that of the decisions, by name.
        num_tested: Number of test images that the head has predicted.
        accuracy: Fraction of them that it got right; None without such images.
        version: Number of the snapshot in this session, from 0.
        is_foreign: Whether a run outside this page made the results.
    """

    project: Project
    neighbours: Neighbours
    queues: Mapping[str, Queue]
    num_tested: int
    accuracy: float | None
    version: int
    is_foreign: bool


class Snapshots:
    """The snapshot of now. Threads may use it at once.

    Args:
        project: The project as it is at the start.
        decisions: Its decisions, which stay while snapshots come and go.
        stamps: What `outputs.stamps` returned before the project was read.

    Attributes:
        now: The snapshot that the page shows.
        gap: Why the outputs on the disk do not belong together, in a sentence; None if they do.
    """

    def __init__(self, project: Project, decisions: Decisions, stamps: outputs.Stamps) -> None:
        self._root, self._decisions = project.root, decisions
        self._mutex = threading.Lock()
        self.now = self._make(project, 0, is_foreign=False)
        self.gap = outputs.find_gap(self._root)
        self._shown = self._seen = stamps

    def shown(self) -> HeadResults:
        """Return the results of the head that the page shows."""
        return self.now.project.head

    def look(self) -> None:
        """Take results of a run outside this page into use, as soon as they belong together."""
        stamps = outputs.stamps(self._root)
        if stamps == self._seen or not self._mutex.acquire(blocking=False):
            return
        try:
            self.gap = outputs.find_gap(self._root)
            if self.gap is None and stamps.outputs != self._shown.outputs:
                self._read(is_foreign=True)
        except HeadstartError as error:
            self.gap = str(error)
        finally:
            self._seen = stamps
            self._mutex.release()

    def take(self) -> None:
        """Take the results of a retraining into use.

        Raises:
            HeadstartError: They cannot be read, or are of another data set.
        """
        with self._mutex:
            self._read(is_foreign=False)
            self.gap, self._seen = None, self._shown

    def leave(self) -> None:
        """Go on showing the last head: what a cancelled or failed retraining leaves is no result."""
        with self._mutex:
            self.gap, self._seen = outputs.find_gap(self._root), outputs.stamps(self._root)

    def _read(self, *, is_foreign: bool) -> None:
        stamps = outputs.stamps(self._root)
        project, old = read_project(self._root), self.now.project
        if (project.data_set, project.fixes_path) != (old.data_set, old.fixes_path):
            raise DataError(
                f"params.yaml: names {project.data_set} with label fixes in {project.fixes_path}, and the page shows "
                f"{old.data_set} with {old.fixes_path}. Stop this server, and start it again."
            )
        self._decisions.use_index(project.digests)
        self.now, self._shown = self._make(project, self.now.version + 1, is_foreign=is_foreign), stamps
        print(f"review: the head was trained anew; {len(project.suspects)} labels to check", file=sys.stderr)

    def _make(self, project: Project, version: int, *, is_foreign: bool) -> Snapshot:
        queues = make_queues(project, self._decisions.fixes())
        tested = sorted(project.tested & project.images.keys())
        wrong = {image.digest for image in queues["wrong"].images}
        accuracy = 1 - len(wrong) / len(tested) if tested else None
        return Snapshot(project, Neighbours(self._root), queues, len(tested), accuracy, version, is_foreign)
