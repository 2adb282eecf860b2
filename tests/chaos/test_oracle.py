"""The oracle of the chaos test: what differs is found, and a clean clone has no results."""

from pathlib import Path

import pytest

from tests.chaos.oracle import differences, make_clone

LOCK = """
schema: '2.0'
stages:
  head:
    cmd: python -m stages.head
    params: {params.yaml: {head: {c: 1.0}}}
    outs:
    - {path: predictions/head.csv, md5: 1}
    - {path: models/head, md5: 2}
"""


def make(root: Path, lock: str = LOCK) -> Path:
    """Write a project with a file and a folder as results."""
    for name in ("predictions/head.csv", "models/head/config.json", "models/head/model.safetensors", "stages/head.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "dvc.lock").write_text(lock)
    (root / "dvc.yaml").write_text("stages:\n  head:\n    outs: [predictions/head.csv, models/head]\n")
    return root


def test_equal_results_have_no_difference(tmp_path: Path) -> None:
    """Two projects with the same lock and the same bytes agree, whatever else lies there."""
    ours, clone = make(tmp_path / "ours"), make(tmp_path / "clone")
    (ours / ".cache").mkdir()

    assert list(differences(ours, clone)) == []


@pytest.mark.parametrize("name", ["predictions/head.csv", "models/head/model.safetensors"])
def test_a_changed_byte_is_found(tmp_path: Path, name: str) -> None:
    """One changed byte of a result is named, also inside an output that is a folder."""
    ours, clone = make(tmp_path / "ours"), make(tmp_path / "clone")
    data = bytearray((ours / name).read_bytes())
    data[3] ^= 1
    (ours / name).write_bytes(data)

    assert list(differences(ours, clone)) == [f"{name}: has other bytes than in the clean clone"]


def test_a_file_that_only_one_has_is_found(tmp_path: Path) -> None:
    """A file too few and a file too many are named."""
    ours, clone = make(tmp_path / "ours"), make(tmp_path / "clone")
    (ours / "predictions/head.csv").unlink()
    (ours / "models/head/leftover.tmp").write_text("x")

    assert list(differences(ours, clone)) == [
        "predictions/head.csv: exists only in the clean clone",
        "models/head/leftover.tmp: exists only in the project",
    ]


def test_another_entry_of_the_lock_is_found(tmp_path: Path) -> None:
    """A different entry of dvc.lock is named down to the value; stages that did not run in the clone do not count."""
    others = LOCK.replace("c: 1.0", "c: 2.0") + "  report: {cmd: x, outs: []}\n"
    ours, clone = make(tmp_path / "ours", others), make(tmp_path / "clone")

    (line,) = differences(ours, clone)
    assert line == "dvc.lock: head: .params.params.yaml.head.c is 2.0; in the clean clone 1.0"


def test_a_clean_clone_has_no_results_and_no_caches(tmp_path: Path) -> None:
    """The clone has code and history; results, dvc.lock and caches stay behind."""
    ours = make(tmp_path / "ours")
    for name in (".cache/embeddings/shard", ".dvc/cache/files/x", ".dvc/tmp/lock", ".dvc/config", ".git/HEAD"):
        (ours / name).parent.mkdir(parents=True, exist_ok=True)
        (ours / name).write_text(name)
    make_clone(ours, tmp_path / "clone")

    found = {path.relative_to(tmp_path / "clone").as_posix() for path in (tmp_path / "clone").rglob("*")}
    assert {name for name in found if (tmp_path / "clone" / name).is_file()} == {
        *("stages/head.py", ".dvc/config", ".git/HEAD", "dvc.yaml")
    }
