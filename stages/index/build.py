"""The index: every file of a folder ends in exactly one row and one state."""

import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from headstart.base.errors import DataError
from headstart.base.progress import Progress
from headstart.imaging.effort import Limits
from headstart.sources.folder import Folder, Listing
from headstart.tables.index import STATUSES, USABLE, IndexRow, count_states, describe_states
from stages.index.examination import examine_all, unread
from stages.index.params import IndexParams
from stages.index.record import Record

_MOST_REASONS = 5
_MOST_PASSES = 3
Result = TypeVar("Result")
# The commands that make the built-in data sets.
_COMMANDS = {"data/ants_bees": "make ants_bees", "data/digits": "make data/digits"}


def build_index(
    source: Folder, listing: Listing, params: IndexParams, num_workers: int, record: Record | None = None
) -> list[IndexRow]:
    """Return a row for every file of a folder, in the order of their paths.

    Of several files with the same bytes, the first by path is used; the others are `duplicate`.

    Args:
        source: Where the files are.
        listing: The files.
        params: The section `index`, which says which files are images.
        num_workers: Number of threads or processes that read and decode. It does not change the result.
        record: Record of the last run. Unchanged files are not read again; files that are read are added. It does not
            change the result.

    Raises:
        DataError: The folder has no usable image. The message counts its files by state.
    """
    rows, changed = [], []
    for path, stamp in listing.files.items():
        row = _skipped(path, params) or (record and record.find(path, stamp))
        if row:
            rows.append(row)
        else:
            changed.append(path)
    try:
        with Progress("index", len(listing.files), "file") as progress:
            progress.advance(len(rows))
            for row in examine_all(source, changed, Limits(params.max_pixels, params.max_seconds), num_workers):
                rows.append(row)
                if record:
                    record.add(row, listing.files[row.path])
                progress.advance(1)
    finally:
        if record:
            record.save()
    # By digest too: a name that is not UTF-8 is shown as text, and another file may have that name.
    rows.sort(key=lambda row: (row.path, row.digest))
    rows = _mark_duplicates(rows)
    assert len(rows) == len(listing.files), "every file has one row"
    if not any(row.status in USABLE for row in rows):
        examples = "; ".join(f"{row.path}: {row.reason}" for row in rows[:3])
        raise DataError(
            f"data.path: {source} has no usable image ({describe_states(rows)}); expected <class>/<image>. "
            f"{examples}".rstrip()
        )
    return rows


def read_settled(source: Folder, read: Callable[[Listing], Result]) -> tuple[Listing, Result]:
    """Read the files of a folder again if some of them were added, removed or changed meanwhile.

    DVC looks at the folder once more when the stage has ended. If the index did not know what DVC sees then, it would
    stay wrong.

    Args:
        source: Where the files are.
        read: Function that reads what a listing names.

    Returns:
        The listing that held before and after reading, and what was read.

    Raises:
        DataError: Files changed in every pass.
    """
    before, changed = source.list_files(), list[str]()
    for _ in range(_MOST_PASSES):
        result, now = read(before), source.list_files()
        if now.files == before.files:
            return now, result
        changed = sorted({path for path, _ in now.files.items() ^ before.files.items()})
        print(f"index: {len(changed)} files changed while they were read, the first {changed[0]!r}")
        before = now
    raise DataError(
        f"data.path: in each of {_MOST_PASSES} passes files of {source} changed while they were read, in the last one "
        f"{len(changed)}, the first {changed[0]!r}. Wait until nothing writes there any more, then run: dvc repro"
    )


def describe(rows: Sequence[IndexRow]) -> str:
    """Return several lines with the number of files by status and the most frequent reasons of each status."""
    counts = count_states(rows)
    first: dict[tuple[str, str], str] = {}
    for row in rows:
        if row.reason:
            first.setdefault((row.status, row.reason), row.path)
    lines = [f"index: {describe_states(rows)} (every file is in data/index.csv)"]
    for status in STATUSES:
        reasons = [(reason, count) for state, reason, count in counts if state == status and reason]
        lines += [
            f"  {count:>9} {status}: {reason}, such as {first[status, reason]!r}"
            for reason, count in reasons[:_MOST_REASONS]
        ]
        if len(reasons) > _MOST_REASONS:
            rest = sum(count for _, count in reasons[_MOST_REASONS:])
            lines.append(f"  {rest:>9} {status}: for {len(reasons) - _MOST_REASONS} other reasons")
    return "\n".join(lines)


def check_bad(rows: Sequence[IndexRow], params: IndexParams) -> None:
    """Raise if more files are quarantined than the params allow.

    Raises:
        DataError: A file is quarantined and `on_bad` is `fail`, or more than `max_bad_fraction` of the files that
            were read are quarantined.
    """
    bad = [row for row in rows if row.status == "quarantined"]
    num_read = sum(row.status != "skipped" for row in rows)
    examples = "; ".join(f"{row.path!r}: {row.reason}" for row in bad[:3])
    if bad and params.on_bad == "fail":
        raise DataError(
            f"{len(bad)} of {num_read} files cannot be used as images, and index.on_bad is fail: {examples} "
            "(data/index.csv lists all). Repair or remove them, or set index.on_bad to quarantine."
        )
    if len(bad) > params.max_bad_fraction * num_read:
        raise DataError(
            f"{len(bad)} of {num_read} files cannot be used as images, more than index.max_bad_fraction "
            f"({params.max_bad_fraction:g}): {examples} (data/index.csv lists all). The copy may be damaged. Repair or "
            "remove them, or raise index.max_bad_fraction."
        )


def check_exists(folder: str) -> None:
    """Raise if the folder of a built-in data set is missing. `Folder.list_files` reports other missing folders.

    Args:
        folder: The folder, as `data.path` names it.

    Raises:
        DataError: The folder is missing. The message names the command that makes it.
    """
    command = _COMMANDS.get(posixpath.normpath(folder))
    if command and not Path(folder).exists():
        raise DataError(f"data.path: {folder} is missing; it is a built-in data set. Run: {command}")


def check_complete(num_files: int, folder: str, lock: Path, max_removed_fraction: float) -> None:
    """Raise if a folder has far fewer files than when it was last indexed.

    Otherwise somebody who has only some of the team's photos would get other splits and scores without a warning.

    Args:
        num_files: Number of files in the folder now.
        folder: The folder, as `data.path` names it.
        lock: Path of dvc.lock, which has the number of files of the last run. If it is missing or names another folder,
            nothing is compared.
        max_removed_fraction: Largest fraction of the files of the last run that may be gone, in [0, 1].

    Raises:
        DataError: More files are gone.
    """
    try:
        deps = YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"]["index"]["deps"]
        last = next(int(dep["nfiles"]) for dep in deps if posixpath.normpath(dep["path"]) == posixpath.normpath(folder))
    except (OSError, YAMLError, KeyError, TypeError, StopIteration):
        return
    if last - num_files > max_removed_fraction * last:
        raise DataError(
            f"data.path: {folder} has {num_files} files, but had {last} when {lock} was written. If this is a partial "
            "copy, copy all files; to work without images, move the folder away and run: dvc repro --pull "
            "--allow-missing. If the files were removed on purpose, raise index.max_removed_fraction for one run."
        )


def _skipped(path: str, params: IndexParams) -> IndexRow | None:
    """Return the row of a file that is skipped because of its name; None for others."""
    if path.startswith(".") or "/." in path:
        reason = "hidden"
    else:
        _, dot, extension = path.rpartition("/")[2].rpartition(".")
        if not dot or extension.lower() not in params.extensions:
            reason = f"extension {dot + extension if dot else '(none)'} is not in index.extensions"
        elif path.isascii():
            return None
        else:
            try:
                path.encode()
            except UnicodeEncodeError:
                reason = "the name is not UTF-8"
            else:
                return None
    readable_path = os.fsencode(path).decode("utf-8", "backslashreplace")
    return unread(readable_path, "skipped", reason)


def _mark_duplicates(rows: Sequence[IndexRow]) -> list[IndexRow]:
    first: dict[str, str] = {}
    marked = []
    for row in rows:
        if row.status in USABLE and first.setdefault(row.digest, row.path) != row.path:
            marked.append(replace(row, status="duplicate", reason=f"same bytes as {first[row.digest]}"))
        else:
            marked.append(row)
    return marked
