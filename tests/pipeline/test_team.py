"""A team: one machine has the photos and runs everything, another has none and works on the cached embeddings."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.conftest import write_photos
from tests.support.project import Project, stages_run


def test_a_laptop_without_photos_trains_on_the_pushed_embeddings(
    tmp_path: Path, copy_of_finished: Callable[[Path], Project]
) -> None:
    """After `dvc push` on the machine with the photos, a clone pulls the embeddings only and tries another head."""
    box = copy_of_finished(tmp_path / "team" / "box")
    box.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    assert "up to date" in box.run("dvc", "status")
    box.run("dvc", "push")
    box.run("dvc", "pull")
    assert box.run("git", "status", "--porcelain", "--untracked-files=no") == " M .dvc/config\n"
    box.commit()

    laptop = Project(tmp_path / "laptop")
    box.run("git", "clone", "--quiet", str(box.root), str(laptop.root))
    laptop.run("git", "config", "user.email", "test@example.com")
    laptop.run("git", "config", "user.name", "Test")
    assert laptop.repro("--pull", "--allow-missing") == []
    output = laptop.run("dvc", "exp", "run", "--pull", "--allow-missing", "-S", "head.c=0.5")

    assert set(stages_run(output)) == {"head", "evaluate@head", "compare", "robustness", "report"}
    assert "the photos are missing, so nothing was checked" in output
    assert "photos are missing or have changed" in output
    assert "Not checked, because the photos were missing" in (laptop.root / "reports" / "index.html").read_text()
    assert not (laptop.root / "data" / "photos").exists()
    numbers = json.loads((laptop.root / "diagnostics" / "head_training.json").read_text())
    assert numbers["c"] == 0.5

    # A part of the photos is no change to the data set: refused, and what was pulled is still there.
    write_photos(laptop.root / "data" / "photos")
    for photo in sorted((laptop.root / "data" / "photos").glob("*/*"))[:4]:
        photo.unlink()
    output = laptop.run("dvc", "repro", "--pull", "--allow-missing", check=False)
    assert (
        "data/photos has 8 files, but had 12 when dvc.lock was written. If this is a partial copy, copy all files"
        in output
    )
    assert stages_run(output) == ["index"]
    shutil.rmtree(laptop.root / "data" / "photos")
    assert laptop.repro("--pull", "--allow-missing") == []
