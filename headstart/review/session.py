"""The session: what the page asks for and what it may change, apart from HTTP."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.base.errors import DataError, HeadstartError
from headstart.base.terminal import printable
from headstart.review import outputs
from headstart.review import queues as all_queues
from headstart.review.decisions import Decisions, Outcome, Wish
from headstart.review.fixes import ACCEPTED, TEST_SET, Fixes, fix_id, reason, says
from headstart.review.noise import label_noise
from headstart.review.pictures import Pictures
from headstart.review.project import Project, ReviewImage, read_project
from headstart.review.queues import Reason
from headstart.review.retrain import Retrain
from headstart.review.snapshots import Snapshot, Snapshots
from headstart.tables.classes import SCRIPT
from headstart.tables.label_fixes import DROP, LabelFix

NUM_NEAREST, NUM_PROBABLE = 8, 5
_MOST_CLASS_LETTERS = 200


class UnknownError(HeadstartError):
    """There is no such image or queue."""


class Session:
    """One project under review. Threads may use it at once.

    Args:
        root: Folder of the project.
        who: Name of the person who decides.

    Raises:
        HeadstartError: A result is missing or damaged. The message says what to run.
    """

    def __init__(self, root: Path, who: str) -> None:
        self._root = root
        stamps = outputs.stamps(root)
        project = read_project(root)
        self.decisions = Decisions(project.fixes_path, project.lock_path, who, project.digests)
        self._snapshots = Snapshots(project, self.decisions, stamps)
        self.pictures = Pictures(project.source, project.max_pixels)
        self.retrain = Retrain(root, self.decisions.stamp, self._snapshots, hold=self.decisions.hold)

    @property
    def _now(self) -> Snapshot:
        return self._snapshots.now

    @property
    def project(self) -> Project:
        """The project as it was read last."""
        return self._now.project

    def close(self) -> None:
        """End what is going on."""
        self.retrain.cancel()
        self.retrain.wait()
        self.pictures.close()

    def state(self) -> dict[str, Any]:
        """Return what the page shows around the images, after a look whether somebody else has run the stages."""
        if not self.retrain.is_running:
            self._snapshots.look()
        now, fixes = self._now, self.decisions.fixes()
        decided = all_queues.decided(now.project, fixes)
        retrain = self.retrain.status()
        comparison = retrain["comparison"] or {}
        return {
            "data_set": now.project.data_set,
            "classes": self.classes(),
            "who": self.decisions.who,
            "fixes_path": self.decisions.path.relative_to(self._root).as_posix()
            if self.decisions.path.is_relative_to(self._root)
            else str(self.decisions.path),
            "queues": [
                {
                    "name": queue.name,
                    "title": queue.title,
                    "about": queue.about,
                    "num": len(queue.images),
                    "num_done": all_queues.num_done(queue, fixes.by_digest),
                }
                for queue in (*now.queues.values(), decided)
            ],
            "results": {"version": now.version, "is_foreign": now.is_foreign, "gap": self._snapshots.gap},
            "retrain": retrain,
            "noise": label_noise(now.queues[all_queues.RANDOM], now.queues["suspects"], fixes),
            "test_labels_changed": self._num_test_labels_changed(),
            "accuracy": {
                "before": comparison.get("accuracy_before"),
                "after": now.accuracy,
                "num_images": now.num_tested,
            },
        }

    def classes(self) -> list[str]:
        """Return the names of all classes: those of the head, then the declared ones."""
        return list(dict.fromkeys([*self._now.project.classes, *self.decisions.fixes().declared]))

    def queue(self, name: str, start: int, count: int) -> dict[str, Any]:
        """Return a range of a queue.

        Raises:
            UnknownError: There is no such queue.
        """
        now, fixes = self._now, self.decisions.fixes()
        if name == "decided":
            queue = all_queues.decided(now.project, fixes)
        elif name in now.queues:
            queue = now.queues[name]
        else:
            raise UnknownError(f"{name!r} is not a queue; expected one of {', '.join([*now.queues, 'decided'])}")
        places = range(len(queue.images))[start : start + count]
        rows = [_row(queue.images[place], queue.reason(place), fixes) for place in places]
        return {"num": len(queue.images), "rows": rows}

    def image(self, digest: str) -> dict[str, Any]:
        """Return what is known about an image.

        Raises:
            UnknownError: There is no such image.
        """
        now, image, fixes = self._now, self.find(digest), self.decisions.fixes()
        probabilities = [
            {"track": track, "label": label, "p": p}
            for track, scores in now.project.scores.items()
            for label, p in scores.top(digest, NUM_PROBABLE)
        ]
        nearest, problem = [], None
        try:
            for one in now.neighbours.nearest(digest, NUM_NEAREST):
                other = now.project.images.get(one.digest)
                if other is not None:
                    near = {"digest": one.digest, "path": other.path, "label": other.label}
                    nearest.append(near | {"similarity": one.similarity})
        except HeadstartError as error:
            problem = str(error)
        fix = fixes.of(digest)
        return {
            "path": image.path,
            "label": image.label or None,
            "split": image.split or None,
            "probabilities": probabilities,
            "nearest": nearest,
            "nearest_problem": problem,
            "decision": fix.label if fix else None,
            "history": [_shown(one) for one in fixes.by_digest.get(digest, ())],
        }

    def find(self, digest: str) -> ReviewImage:
        """Return an image of the index.

        Raises:
            UnknownError: There is no such image.
        """
        image = self._now.project.images.get(digest)
        if image is None:
            raise UnknownError(f"{digest} is not an image of this data set")
        return image

    def path_of(self, digest: str) -> str | None:
        """Return the path of an image, as in the index; None if there is no such image."""
        image = self._now.project.images.get(digest)
        return image.path if image else None

    def decide(
        self,
        digests: Sequence[str],
        label: str | None,
        queue: str,
        seen: Mapping[str, str | None],
        *,
        force: bool,
    ) -> dict[str, Any]:
        """Decide on images.

        Args:
            digests: Digests of the images.
            label: Name of a class, `drop`, or None to accept the label that each image has.
            queue: Name of the queue in which they were seen.
            seen: Decision that the page showed, by digest.
            force: Whether the decisions of others are overwritten.

        Raises:
            UnknownError: There is no such image or queue.
            DataError: The label is not a class, or an image cannot have one.
        """
        known = self.classes()
        if queue and queue != "decided" and queue not in self._now.queues:
            raise UnknownError(f"{queue!r} is not a queue; expected one of {', '.join(self._now.queues)}")
        if label is not None and label != DROP and label not in known:
            raise DataError(f"{label!r} is not a class; expected one of {', '.join(map(repr, known))}, or {DROP!r}")
        if label == DROP and DROP in known:
            raise DataError(f"a class is called {DROP!r}, so no image can be dropped; give the class another name")
        given, wishes = self._now.project.given, []
        for image in map(self.find, dict.fromkeys(digests)):
            if image.digest not in self._now.project.decidable and not self.decisions.has_seen(image.digest):
                raise DataError(f"{image.path}: has no part in this data set (data/split.csv), so no label can be set")
            wanted = label or image.label
            if not wanted:
                raise DataError(f"{image.path}: has no label to accept; choose a class")
            is_accepted = wanted == given.get(image.digest, image.label)
            why = reason(queue, accepted=is_accepted, test_set=image.split == "test")
            wishes.append(Wish(image.digest, image.path, wanted, why, seen.get(image.digest)))
        return self._answer(self.decisions.decide(wishes, force=force))

    def undo(self, ids: Sequence[str], seen: Mapping[str, str | None]) -> dict[str, Any]:
        """Take back decisions by their ids. Decisions of others that the person saw are replaced."""
        return self._answer(self.decisions.undo(ids, seen))

    def declare_class(self, name: str) -> dict[str, Any]:
        """Declare a class, and return the names of all classes.

        Raises:
            DataError: The name is not fit for a class, or one has it already.
        """
        name = unicodedata.normalize("NFC", name).strip()
        if not name or len(name) > _MOST_CLASS_LETTERS or name != printable(name):
            raise DataError(f"expected the name of a class, 1 to {_MOST_CLASS_LETTERS} printable letters in one line")
        if name.casefold() == DROP or re.search(SCRIPT, name):
            raise DataError(f"{name!r} cannot be the name of a class; choose another one")
        for other in self.classes():
            if other.casefold() == name.casefold():
                raise DataError(f"there is a class {other!r} already")
        self.decisions.declare_class(name)
        return {"classes": self.classes()}

    def _answer(self, outcome: Outcome) -> dict[str, Any]:
        images, fixes = self._now.project.images, self.decisions.fixes()
        conflicts = [
            {"digest": digest, "theirs": fix.label if fix else None}
            | {"by": fix.who if fix else None, "when": fix.when if fix else None}
            for digest, fix in outcome.conflicts.items()
        ]
        rows = [_row(images[digest], None, fixes) for digest in outcome.digests if digest in images]
        return {"rows": rows, "conflicts": conflicts, "ids": outcome.ids}

    def _num_test_labels_changed(self) -> int:
        latest, images = self.decisions.fixes().latest(), self._now.project.images
        return sum(
            not says(fix, ACCEPTED) and (says(fix, TEST_SET) or (digest in images and images[digest].split == "test"))
            for digest, fix in latest.items()
        )


def _row(image: ReviewImage, why: Reason | None, fixes: Fixes) -> dict[str, Any]:
    fix = fixes.of(image.digest) if image.digest else None
    row = {
        "digest": image.digest,
        "path": image.path,
        "label": image.label or None,
        "split": image.split or None,
        "decision": fix.label if fix else None,
        "by": fix.who if fix else None,
        "id": fix_id(fix) if fix else None,
        "width": image.width,
        "height": image.height,
    }
    return row if why is None else row | {"suggestion": why.suggestion, "why": why.why}


def _shown(fix: LabelFix) -> dict[str, str]:
    return {"id": fix_id(fix), "label": fix.label, "who": fix.who, "when": fix.when, "why": fix.why}
