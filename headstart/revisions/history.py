"""The history: files of the project at any revision, from git, DVC's cache or its remote. Nothing is checked out."""

import getpass
import hashlib
import os
import re
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Any

from headstart.base.errors import DataError, HeadstartError, ParamsError
from headstart.base.files import read_bytes
from headstart.revisions.lock import LOCK, Stages, parse_lock

WORKSPACE = "workspace"
# Where DVC keeps experiments: refs/exps/<commit that they started from>/<name>.
_EXPERIMENT = r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)"


class History:
    """Reads files of a project at its revisions.

    Args:
        root: Folder of the project.

    Raises:
        DataError: git knows no repository there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        done = self._run("rev-parse", "--git-dir")
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip()
            raise DataError(f"{root.absolute()}: git says: {reason}. Run from the project's root folder")

    def commit(self, name: str) -> str:
        """Return the commit of a branch, tag, experiment or other revision, as hex digits; empty for the workspace.

        Raises:
            ParamsError: There is no such revision, or several experiments have this name.
        """
        if name == WORKSPACE:
            return ""
        found = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if found is not None:
            return found.decode().strip()
        commits = [commit for experiment, commit in self.experiments if experiment == name]
        if not commits:
            raise ParamsError(
                f"{name!r}: found no such revision; expected a commit, branch or tag of git, an experiment of `dvc exp "
                f"list --all`, or {WORKSPACE}. What is only on a server: git fetch, or dvc exp pull"
            )
        if len(commits) > 1:
            raise ParamsError(
                f"{name!r}: is the name of {len(commits)} experiments, of the commits {', '.join(commits)}; name one "
                "of these commits"
            )
        return commits[0]

    @cached_property
    def experiments(self) -> list[tuple[str, str]]:
        """Name and commit of every experiment, by name."""
        listed = self._git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps") or b""
        lines = [line.rpartition(" ") for line in listed.decode(errors="replace").splitlines()]
        found = [(re.fullmatch(_EXPERIMENT, ref), commit) for ref, _, commit in lines]
        return sorted((match[1], commit) for match, commit in found if match)

    def file(self, commit: str, path: str) -> bytes | None:
        """Return a file that git tracks; None if the revision has none.

        Args:
            commit: Commit; empty for the workspace.
            path: Path below the root.
        """
        if commit:
            return self._git("cat-file", "blob", f"{commit}:./{path}")
        try:
            return read_bytes(self._root / path)
        except FileNotFoundError:
            return None

    def stages(self, commit: str) -> Stages:
        """Return the stages of dvc.lock by name: what they read and wrote when they last ran.

        Raises:
            DataError: The revision has no dvc.lock, or a damaged one.
        """
        data = self.file(commit, LOCK)
        if data is None:
            raise DataError("has no dvc.lock, so it has no results. Run `dvc repro` there, and commit dvc.lock")
        return parse_lock(data)

    def output(self, commit: str, path: str, md5: str) -> bytes:
        """Return an output of the pipeline: from the workspace, from DVC's cache, or from its remote.

        Args:
            commit: Commit; empty for the workspace.
            path: Path below the root.
            md5: md5 of the file, from dvc.lock.

        Raises:
            DataError: None of them has the file with this md5, or dvc.lock lists none.
        """
        if not md5:
            raise DataError(f"{path}: dvc.lock lists no md5, so the file cannot be found. Run `dvc repro` there")
        cached = Path(self._cache.oid_to_path(md5))
        for place in [cached, *([] if commit else [self._root / path])]:
            try:
                data = read_bytes(place)
            except FileNotFoundError:
                continue
            if _md5(data) == md5:
                return data
        if cached.exists():
            raise DataError(f"{path}: {cached} is damaged: its md5 is not {md5}. Delete it, and run this again")
        data = self._from_remote(commit, path)
        if _md5(data) != md5:
            raise DataError(f"{path}: the remote has md5 {_md5(data)}; dvc.lock lists {md5}. Push it again: dvc push")
        return data

    @cached_property
    def _cache(self) -> Any:  # noqa: ANN401 - DVC has no types
        return self._open_dvc("").cache.local

    def _from_remote(self, commit: str, path: str) -> bytes:
        try:
            with self._open_dvc(commit).dvcfs.open(path, "rb") as file:
                return bytes(file.read())
        except HeadstartError:
            raise
        except Exception as error:
            raise DataError(
                f"{path}: is neither in DVC's cache nor in its remote ({error}). Run `dvc push` where it was "
                "made, or `dvc repro` at that revision"
            ) from error

    def _open_dvc(self, commit: str) -> Any:  # noqa: ANN401 - DVC has no types
        from dvc.exceptions import DvcException  # importing DVC takes half a second
        from dvc.repo import Repo

        try:
            getpass.getuser()
        except (KeyError, OSError):  # DVC asks for the user's name, and a container may run as a user without one
            os.environ["USER"] = str(os.getuid())
        try:
            return Repo(str(self._root.absolute()), rev=commit or None)
        except DvcException as error:
            raise DataError(f"{self._root.absolute()}: DVC says: {error}") from error

    def _git(self, *words: str) -> bytes | None:
        """Return what a git command prints; None if it fails."""
        done = self._run(*words)
        return done.stdout if done.returncode == 0 else None

    def _run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["git", *words], cwd=self._root, capture_output=True, check=False)  # noqa: S603, S607


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
