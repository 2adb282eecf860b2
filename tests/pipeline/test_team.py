"""A team: one machine has the photos and runs everything, another has none and works on the cached embeddings."""

import json
from pathlib import Path

from stages.core.sections import BackboneParams
from tests.pipeline.project import Project, clone_project, stages_run


def test_a_laptop_without_photos_trains_on_the_pushed_embeddings(tmp_path: Path, tiny_backbone: BackboneParams) -> None:
    """After `dvc push` on the machine with the photos, a clone pulls the embeddings only and tries another head."""
    box = clone_project(tmp_path / "box")
    box.use_photos(tiny_backbone)
    box.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    box.repro()
    box.run("dvc", "push")
    box.commit()

    laptop = Project(tmp_path / "laptop")
    box.run("git", "clone", "--quiet", str(box.root), str(laptop.root))
    laptop.run("git", "config", "user.email", "test@example.com")
    laptop.run("git", "config", "user.name", "Test")
    assert laptop.repro("--pull", "--allow-missing") == []
    output = laptop.run("dvc", "exp", "run", "--pull", "--allow-missing", "-S", "head.c=0.5")

    assert stages_run(output) == ["head", "evaluate@head"]
    assert not (laptop.root / "data" / "photos").exists()
    numbers = json.loads((laptop.root / "metrics" / "head_training.json").read_text())
    assert numbers["head_training"]["c"] == 0.5
