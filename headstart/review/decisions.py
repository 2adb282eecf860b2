"""Decisions: what people say about images, written at once into the label fixes of the data set.

Several processes and people may write one file: each change is made under a lock, to what the file holds at that
moment, and the file is replaced as a whole.
"""

import fcntl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from headstart.base.errors import DataError
from headstart.base.files import temporary_prefix
from headstart.review.fixes import Fixes, fix_id
from headstart.tables.label_fixes import LabelFix, read_label_fixes, write_label_fixes

_LOCK_SECONDS, _HOLD_SECONDS = 10.0, 5.0


@dataclass(frozen=True)
class Wish:
    """A decision that somebody wants to make.

    Attributes:
        digest: sha256 of the image's file.
        path: Path of the image, as in the index.
        label: Name of a class, or `drop`.
        why: Reason, from `reason`.
        seen: Decision on the image that the person saw; None if none.
    """

    digest: str
    path: str
    label: str
    why: str
    seen: str | None


@dataclass(frozen=True)
class Outcome:
    """What became of some wishes.

    Attributes:
        digests: Images that now have the decision that was wished for.
        conflicts: The fixes of others that stand in the way, by digest; None where the fix was removed.
        ids: Ids of the fixes that were written, by digest. What somebody else had decided already is not among them.
    """

    digests: Sequence[str]
    conflicts: Mapping[str, LabelFix | None]
    ids: Mapping[str, str] = field(default_factory=dict)


class Decisions:
    """The label fixes of one data set. Threads and processes may use it at once.

    Args:
        path: The file; it need not exist.
        lock: File that is locked while somebody writes. It does not lie in the folder of the fixes, which DVC watches.
        who: Name of the person, written into each fix.
        digests: Digest of each image, by its path in the index: a fix may name its image by path alone.
    """

    def __init__(self, path: Path, lock: Path, who: str, digests: Mapping[str, str]) -> None:
        self.path, self.who, self._lock = path, who, lock
        self._digests = digests
        self._mutex = threading.RLock()
        self._read_stamp: tuple[int, ...] | None = None
        self._fixes = Fixes()
        # The image of each decision of this process and its fixes before, by the id of the fix, for undo.
        self._log: dict[str, list[tuple[str, Sequence[LabelFix]]]] = defaultdict(list)
        self._seen: set[str] = set()  # images that had a fix at some time
        with self._locked():
            for leftover in path.parent.glob(f"{temporary_prefix(path)}*.tmp"):  # of a process that was killed
                leftover.unlink(missing_ok=True)

    def use_index(self, digests: Mapping[str, str]) -> None:
        """Take another index into use."""
        with self._mutex:
            self._digests, self._read_stamp = digests, None

    def stamp(self) -> tuple[int, ...]:
        """Return what changes whenever the file does."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def fixes(self) -> Fixes:
        """Return what the file holds now. It is read again only if it has changed.

        Raises:
            DataError: The file cannot be read as label fixes.
        """
        with self._mutex:
            stamp = self.stamp()
            if stamp != self._read_stamp:
                self._fixes, self._read_stamp = self._group(read_label_fixes(self.path)), stamp
                self._seen.update(self._fixes.by_digest)
            return self._fixes

    def has_seen(self, digest: str) -> bool:
        """Return whether an image has a fix, or had one since the start.

        Raises:
            DataError: As `fixes`.
        """
        with self._mutex:
            self.fixes()
            return digest in self._seen

    def decide(self, wishes: Sequence[Wish], *, force: bool = False) -> Outcome:
        """Write decisions, all in one step.

        A fix that agrees with the wish already stays as it is. One that the person did not see is a conflict.

        Args:
            wishes: Decisions on different images.
            force: Whether conflicts are overwritten.

        Raises:
            DataError: The file cannot be read, or is locked by another process.
            OSError: The file cannot be written.
        """
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        done, conflicts, changes = [], {}, dict[str, Sequence[LabelFix]]()
        with self._locked():
            fixes = self.fixes()
            for wish in wishes:
                rows = fixes.by_digest.get(wish.digest, ())
                found = fixes.of(wish.digest)
                label = found.label if found else None
                if label == wish.label and len(rows) == 1:
                    done.append(wish.digest)
                elif label != wish.seen and not force:
                    conflicts[wish.digest] = found
                else:
                    changes[wish.digest] = [LabelFix(wish.digest, wish.path, wish.label, self.who, now, wish.why)]
                    done.append(wish.digest)
            self._write(changes)
            ids = {digest: fix_id(fix) for digest, (fix,) in changes.items()}
            for digest, one in ids.items():
                self._log[one].append((digest, fixes.by_digest.get(digest, ())))
        return Outcome(done, conflicts, ids)

    def undo(self, ids: Sequence[str], seen: Mapping[str, str | None] | None = None) -> Outcome:
        """Take decisions back: each image gets the fixes that it had before, or none.

        A fix of an earlier session is removed, because nobody knows what it replaced. Where somebody has decided
        otherwise since, that is a conflict.

        Args:
            ids: Ids of fixes. One that nobody knows is passed over.
            seen: Decisions of others that the person saw and wants to replace, by digest; None where there is none.

        Raises:
            DataError, OSError: As `decide`.
        """
        changes, conflicts = dict[str, Sequence[LabelFix]](), dict[str, LabelFix | None]()
        seen = seen or {}
        with self._locked():
            fixes = self.fixes()
            digests = {fix_id(fix): digest for digest, rows in fixes.by_digest.items() for fix in rows}
            undone = []
            for one in dict.fromkeys(reversed(ids)):  # the latest first, in case an image was decided twice
                digest, earlier = self._log[one][-1] if self._log.get(one) else (digests.get(one, ""), ())
                rows = changes.get(digest, fixes.by_digest.get(digest, ()))
                others = [fix for fix in rows if fix_id(fix) != one]
                found = fixes.of(digest)
                if len(others) < len(rows):
                    changes[digest] = [*others, *earlier]
                elif digest in seen and seen[digest] == (found.label if found else None):
                    changes[digest] = earlier
                elif digest and list(rows) == list(earlier):
                    changes[digest] = rows  # somebody else has taken it back
                elif digest:
                    conflicts[digest] = found
                    continue
                undone.append(one)
            self._write(changes)
            for one in undone:  # only now: if nothing was written, the user can try again
                del self._log[one][-1:]
        return Outcome(list(changes), conflicts)

    def declare_class(self, name: str) -> None:
        """Write a row that declares a class.

        Raises:
            DataError, OSError: As `decide`.
        """
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._locked():
            if name not in self.fixes().declared:
                self._write({}, [LabelFix("", "", name, self.who, now, "new class")])

    def hold(self) -> Callable[[], None]:
        """Let decisions of all processes wait until the returned function is called, or a few seconds have passed.

        They can be read meanwhile, until somebody decides.
        """
        file = self._lock.open("a")
        end = time.monotonic() + _HOLD_SECONDS
        while not _try_lock(file.fileno()) and time.monotonic() < end:
            time.sleep(0.02)
        timer = threading.Timer(_HOLD_SECONDS, file.close)  # whoever waits gives up after `_LOCK_SECONDS`
        timer.daemon = True
        timer.start()

        def release() -> None:
            timer.cancel()
            file.close()

        return release

    def _write(self, changes: Mapping[str, Sequence[LabelFix]], more: Sequence[LabelFix] = ()) -> None:
        """Write the file with other fixes of some images, and with more rows. Call it under the lock.

        Rows of other images stay, also those that this index does not know.
        """
        if not changes and not more:
            return
        fixes = self.fixes()
        gone = {id(fix) for digest in changes for fix in fixes.by_digest.get(digest, ())}
        kept = [fix for fix in fixes.rows if id(fix) not in gone]
        write_label_fixes(self.path, [*kept, *chain.from_iterable(changes.values()), *more])

    def _group(self, rows: Sequence[LabelFix]) -> Fixes:
        by_digest: dict[str, list[LabelFix]] = defaultdict(list)
        for fix in rows:
            digest = fix.digest or self._digests.get(fix.path)
            if digest:
                by_digest[digest].append(fix)
        return Fixes(rows, by_digest, list(dict.fromkeys(fix.label for fix in rows if fix.declares_class)))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other threads and processes from writing the file.

        The file itself cannot be locked, because it is replaced. A lock ends with its process, even with a killed one.
        """
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._mutex, self._lock.open("a") as file:
            end = time.monotonic() + _LOCK_SECONDS
            while not _try_lock(file.fileno()):
                if time.monotonic() > end:
                    raise DataError(
                        f"{self._lock}: another process has held it for {_LOCK_SECONDS:g} seconds; nothing was "
                        "written. End that process, then decide again."
                    )
                time.sleep(0.02)
            yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
