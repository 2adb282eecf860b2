"""Completeness: a folder that lost many of its files is a partial copy rather than a change."""

from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.core.errors import DataError


def check_complete(num_files: int, folder: str, lock: Path, max_removed_fraction: float) -> None:
    """Refuse a folder that has far fewer files than when it was last indexed, before its numbers replace the old ones.

    Somebody with a part of the team's photos would otherwise get other splits and scores, and nobody would know why.

    Args:
        num_files: Files in the folder now.
        folder: As `data.path` names it.
        lock: dvc.lock, which has the number of files of the last run; without it, or for another folder, nothing is
            compared.
        max_removed_fraction: Largest fraction of them that may be gone.

    Raises:
        DataError: More are gone.
    """
    try:
        deps = YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"]["index"]["deps"]
        last = next(int(dep["nfiles"]) for dep in deps if dep["path"] == folder)
    except (OSError, YAMLError, KeyError, TypeError, StopIteration):
        return
    if last - num_files > max_removed_fraction * last:
        raise DataError(
            f"data.path: {folder} has {num_files} files, and had {last} when {lock} was written: a partial copy? Bring "
            "all of them; or, to work without images, move the folder away and run: dvc repro --pull --allow-missing. "
            "If they were removed on purpose, raise index.max_removed_fraction for one run."
        )
