"""A revision is read from git and DVC's cache or remote; nothing is checked out, and damage is named."""

import re
import shutil
from pathlib import Path

import pytest

from headstart.base.errors import DataError, HeadstartError, ParamsError, TableError
from headstart.revisions.changes import ImageChanges, ParamChange, find_changes
from headstart.revisions.history import History
from headstart.revisions.revision import read_revision
from tests.support.revisions import RevisionsProject, predictions
from tests.unit.revisions.conftest import images


def test_a_tag_and_the_workspace_have_their_own_predictions(project: RevisionsProject) -> None:
    """Each name gives the predictions, images and params of its own commit."""
    history = History(project.root)

    good, now = (read_revision(history, name) for name in ("good", "workspace"))

    assert good.runs["head"].predictions.accuracy == pytest.approx(50 / 60)
    assert now.runs["head"].predictions.accuracy == pytest.approx(30 / 60)
    # Also those of the stage before, whose table the head reads.
    assert good.runs["head"].params == {"head.c": 1.0, "split.seed": 0}
    assert good.images is not None
    assert len(good.images) == 80
    assert (now.commit, now.title) == ("", "workspace")
    assert good.title == f"good ({good.commit[:7]})"
    assert good.runs["head"].edited == []


def test_what_differs_is_found(project: RevisionsProject) -> None:
    """Params with their values, and images that were removed, are told; the same revision differs in nothing."""
    history = History(project.root)
    good, now = (read_revision(history, name) for name in ("good", "workspace"))

    found = find_changes(good, now, ["head"])

    assert found.params == [ParamChange("head.c", 1.0, 2.0), ParamChange("head.seed", "(absent)", 1)]
    assert found.images == ImageChanges(num_added=0, num_removed=10, num_relabelled=0, num_moved=0, num_leaked=0)
    assert find_changes(good, good, ["head"]).params == []


def test_images_that_moved_into_the_test_set_are_counted(project: RevisionsProject) -> None:
    """An image that was trained on and is tested now is told: the first revision has an unfair answer for it."""
    project.write(predictions([True] * 60), images=images(first_training=65))

    history = History(project.root)
    found = find_changes(read_revision(history, "good"), read_revision(history, "workspace"), ["head"])

    assert found.images == ImageChanges(num_added=0, num_removed=0, num_relabelled=0, num_moved=5, num_leaked=5)
    back = find_changes(read_revision(history, "workspace"), read_revision(history, "good"), ["head"])
    assert back.images == ImageChanges(num_added=0, num_removed=0, num_relabelled=0, num_moved=5, num_leaked=0)


def test_params_that_were_edited_after_the_run_are_told(project: RevisionsProject) -> None:
    """Results that are older than params.yaml are named, with the params."""
    text = (project.root / "params.yaml").read_text()
    (project.root / "params.yaml").write_text(text.replace("c: 2.0", "c: 3.0"))

    assert read_revision(History(project.root), "workspace").runs["head"].edited == ["head.c"]


def test_a_result_that_left_the_cache_comes_from_the_remote(project: RevisionsProject, tmp_path: Path) -> None:
    """Where DVC's cache lacks a result, it is read from the remote, and the cache stays as it is."""
    project.run("dvc", "remote", "add", "--default", "--local", "store", str(tmp_path / "remote"))
    project.run("git", "checkout", "--quiet", "good")
    project.run("dvc", "push", "--quiet")
    project.run("git", "checkout", "--quiet", "main")
    shutil.rmtree(project.root / ".dvc/cache")

    found = read_revision(History(project.root), "good")

    assert found.runs["head"].predictions.accuracy == pytest.approx(50 / 60)
    assert found.images is not None
    assert not list((project.root / ".dvc/cache").rglob("*.csv"))


def test_the_workspace_needs_no_cache(project: RevisionsProject) -> None:
    """The files of the workspace are enough, where they are those of dvc.lock."""
    shutil.rmtree(project.root / ".dvc/cache")

    assert read_revision(History(project.root), "workspace").runs["head"].predictions.accuracy == pytest.approx(0.5)


def test_a_damaged_copy_is_not_used(project: RevisionsProject) -> None:
    """A result in DVC's cache whose bytes rotted is an error that names it. To delete it, as it says, helps."""
    project.run("git", "checkout", "--quiet", "good")
    project.run("dvc", "checkout", "--quiet")
    cached = project.cache_file("predictions/head.csv")
    cached.chmod(0o644)
    cached.write_bytes(cached.read_bytes().replace(b"0", b"1", 1))
    project.run("git", "checkout", "--quiet", "main")

    with pytest.raises(DataError, match=rf"good: predictions/head.csv: {cached} is damaged.*Delete it"):
        read_revision(History(project.root), "good")
    cached.unlink()
    with pytest.raises(DataError, match="good: predictions/head.csv: is neither in DVC's cache nor in its remote"):
        read_revision(History(project.root), "good")


def test_an_image_table_that_is_nowhere_leaves_the_rest(project: RevisionsProject) -> None:
    """Without data/split.csv the predictions are still compared; what changed in the images is unknown."""
    project.cache_file("data/split.csv").unlink()
    (project.root / "data/split.csv").unlink()

    found = read_revision(History(project.root), "workspace")

    assert found.images is None
    assert find_changes(found, found, ["head"]).images is None


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("nowhere", ParamsError, "'nowhere': found no such revision; expected a commit, branch or tag"),
        ("--help", ParamsError, "'--help': found no such revision"),
        ("empty", DataError, "empty: has no dvc.lock, so it has no results. Run `dvc repro` there"),
        ("broken", DataError, "broken: dvc.lock is damaged .dvc.lock: is not valid YAML"),
        ("outside", DataError, r"outside: dvc.lock is damaged .*md5: String should match pattern"),
        ("headless", DataError, "headless: dvc.lock lists no predictions/head.csv or predictions/finetune.csv"),
        ("foreign", TableError, "foreign: predictions/head.csv: columns are"),
    ],
)
def test_a_revision_without_results_is_told(
    project: RevisionsProject, name: str, kind: type[HeadstartError], words: str
) -> None:
    """A revision that does not exist, or whose results cannot be read, is named with what to do."""
    if name == "empty":
        project.run("git", "rm", "--quiet", "dvc.lock")
    elif name == "broken":
        (project.root / "dvc.lock").write_text("{")
    elif name == "outside":  # an md5 is part of a path
        lock = (project.root / "dvc.lock").read_text()
        (project.root / "dvc.lock").write_text(re.sub("md5: [0-9a-f]{32}\n", "md5: ../../../../../etc/passwd\n", lock))
    elif name == "headless":
        project.write(None, images=images())
    elif name == "foreign":
        project.replace("predictions/head.csv", b"other\n1\n")
    if name in ("empty", "broken", "outside", "headless", "foreign"):
        project.commit()
        project.run("git", "branch", name)

    with pytest.raises(kind, match=words):
        read_revision(History(project.root), name)


def test_an_experiment_has_its_name_unless_two_have_it(project: RevisionsProject) -> None:
    """An experiment is found by its name; where two experiments have the same name, both commits are told."""
    commits = [project.run("git", "rev-parse", name).strip() for name in ("good", "main")]
    places = [f"refs/exps/{commit[:2]}/{commit[2:]}/mine" for commit in commits]
    project.run("git", "update-ref", places[0], commits[0])
    assert History(project.root).commit("mine") == commits[0]

    project.run("git", "update-ref", places[1], commits[1])
    with pytest.raises(ParamsError, match=rf"'mine': is the name of 2 experiments.*{commits[0]}"):
        History(project.root).commit("mine")


def test_a_folder_without_git_is_told(tmp_path: Path) -> None:
    """Outside a repository, git's own words are passed on, with what to do."""
    with pytest.raises(DataError, match=r"git says: fatal: not a git repository.*Run from the project's root"):
        History(tmp_path)
