"""Queues: what is in them, in which order, and why."""

from dataclasses import replace
from pathlib import Path

import pytest

from headstart.backbone.params import BackboneParams
from headstart.base.csv_files import write_table
from headstart.base.errors import TableError
from headstart.review.fixes import Fixes
from headstart.review.noise import label_noise
from headstart.review.project import read_project
from headstart.review.queues import make_queues
from headstart.review.session import Session
from headstart.tables.head import NearDuplicate
from headstart.tables.intervals import wilson_interval
from headstart.tables.label_fixes import LabelFix
from headstart.tables.rows import read_rows, write_rows
from headstart.tables.split import RelabelledRow, SplitRow
from tests.unit.review.conftest import write_neighbours


def rows(session: Session, queue: str) -> list[dict[str, object]]:
    """Return all rows of a queue."""
    found: list[dict[str, object]] = session.queue(queue, 0, 500)["rows"]
    return found


def test_queues_hold_what_they_say(session: Session) -> None:
    """Each queue has its images, its suggestion and a sentence that says why."""
    suspects, disagree, wrong = (rows(session, name) for name in ("suspects", "disagree", "wrong"))

    assert {row["label"] for row in suspects} == {"blue", "red"}
    assert all(row["suggestion"] == "green" and row["split"] == "train" for row in suspects)
    assert suspects[0]["why"] == "The head, trained without this image, says green (80 %); the label, " + (
        f"{suspects[0]['label']}, gets 10 %."
    )
    assert len(disagree) == 3
    assert {row["suggestion"] for row in disagree} == {None, "blue", "green"}
    assert {row["label"] for row in wrong} == {"blue", "red"}
    assert len(rows(session, "random")) == 12
    assert len(rows(session, "doubtful")) == 9
    (broken,) = rows(session, "quarantined")
    assert (broken["path"], broken["decision"]) == ("red/broken.jpg", None)


def test_the_worst_comes_first(session: Session) -> None:
    """Doubtful images are in the order of the head's confidence, wrong ones in that of their label's probability."""
    head = session.project.scores["head"]
    doubtful = [head.top(str(row["digest"]), 1)[0][1] for row in rows(session, "doubtful")]
    wrong = [head.of(str(row["digest"]), str(row["label"])) or 0 for row in rows(session, "wrong")]

    assert doubtful == sorted(doubtful)
    assert wrong == sorted(wrong)


def test_look_alikes_of_two_labels_come_first(root: Path) -> None:
    """A pair with different labels comes before a closer one with the same, with both of its images."""
    split = read_rows(root / "data/split.csv", SplitRow)
    test = {row.label: row for row in split if row.split == "test"}
    trained = {row.label: row for row in split if row.split == "train"}

    def pair(one: SplitRow, other: SplitRow, similarity: float) -> NearDuplicate:
        return NearDuplicate(one.digest, one.path, one.label, other.digest, other.path, other.label, similarity)

    pairs = [pair(test["red"], trained["red"], 0.99), pair(test["blue"], trained["green"], 0.95)]
    write_rows(root / "diagnostics/head/near_duplicates.csv", pairs, NearDuplicate)
    queue = make_queues(read_project(root), Fixes())["alike"]

    assert [image.digest for image in queue.images] == [
        test["blue"].digest,
        trained["green"].digest,
        test["red"].digest,
    ]
    assert [queue.reason(place).suggestion for place in range(3)] == ["green", "blue", None]
    assert trained["green"].path in queue.reason(0).why


def test_a_range_of_a_queue_is_answered(session: Session) -> None:
    """Ranges join to the whole queue; beyond its end there is nothing, and the number of all is always there."""
    parts = [session.queue("random", start, 5) for start in (0, 5, 10, 15, 10**9)]

    assert {part["num"] for part in parts} == {12}
    assert [row for part in parts for row in part["rows"]] == rows(session, "random")


def test_the_random_order_is_the_same_every_time(root: Path, session: Session) -> None:
    """Another session has the same order, and an image that is dropped keeps its place."""
    order = [row["digest"] for row in rows(session, "random")]
    dropped = str(order[3])
    session.decide([dropped], "drop", "random", {}, force=False)
    split = [row for row in read_rows(root / "data/split.csv", SplitRow) if row.digest != dropped]
    write_rows(root / "data/split.csv", split, SplitRow)
    later = Session(root, "Ann")

    assert [row["digest"] for row in rows(later, "random")] == order
    assert order != sorted(map(str, order))
    later.close()


def test_unlabelled_images_are_in_the_order_of_their_use(root: Path) -> None:
    """The table of `head` gives order and suggestion; without it the queue is empty."""
    split = read_rows(root / "data/split.csv", SplitRow)
    pooled = split[:2]
    write_rows(root / "data/split.csv", split[2:], SplitRow)
    assert not make_queues(read_project(root), Fixes())["unlabelled"].images
    lines = [[place, row.digest, row.path, "red", 0.5, 1] for place, row in enumerate(reversed(pooled), 1)]
    header = ["place", "digest", "path", "predicted", "probability", "score"]
    write_table(root / "diagnostics/head/next_to_label.csv", header, lines)
    queue = make_queues(read_project(root), Fixes())["unlabelled"]

    assert [image.digest for image in queue.images] == [row.digest for row in reversed(pooled)]
    assert queue.reason(0).suggestion == "red"


def test_fixes_of_an_earlier_session_are_shown_as_done(root: Path, session: Session) -> None:
    """They count in every queue; the queue of decisions has contradictions first, then the latest."""
    one, two, three = (str(row["digest"]) for row in rows(session, "random")[:3])
    text = "digest,path,label,who,when,why\n"
    text += f"{one},,red,Ann,2026-01-01T00:00:00Z,\n{two},,red,Bob,2026-01-02T00:00:00Z,\n"
    text += f"{three},,red,Ann,2025-01-01T00:00:00Z,\n{three},,blue,Bob,2025-01-02T00:00:00Z,\n"
    (root / "data/label_fixes").mkdir(exist_ok=True)
    session.decisions.path.write_text(text)
    decided = rows(session, "decided")

    assert [row["digest"] for row in decided] == [three, two, one]
    assert "2 rows for this image: red by Ann, blue by Bob" in str(decided[0]["why"])
    assert [row["decision"] for row in rows(session, "random")[:3]] == ["red", "red", "blue"]


def test_the_accuracy_is_that_of_the_predictions(session: Session) -> None:
    """The page shows how many test images the head gets right, before any run and without a comparison."""
    assert session.state()["accuracy"] == {"before": None, "after": pytest.approx(1 / 3), "num_images": 3}


def test_an_image_has_probabilities_and_neighbours(root: Path, session: Session, tiny_backbone: BackboneParams) -> None:
    """Test images have the probabilities of both tracks; neighbours are training images, the nearest first."""
    split = read_rows(root / "data/split.csv", SplitRow)
    write_neighbours(root, tiny_backbone, split)
    test = next(row for row in split if row.split == "test")
    found = session.image(test.digest)
    own = session.image(split[0].digest)
    similarities = [one["similarity"] for one in found["nearest"]]

    assert {one["track"] for one in found["probabilities"]} == {"head", "finetune"}
    assert len(found["nearest"]) == 8
    assert found["nearest"][0]["label"] == test.label
    assert similarities == sorted(similarities, reverse=True)
    assert split[0].digest not in {one["digest"] for one in own["nearest"]}


def test_a_project_without_features_has_no_neighbours(session: Session) -> None:
    """The reason is given in their place."""
    found = session.image(str(rows(session, "random")[0]["digest"]))

    assert found["nearest"] == []
    assert "models/head" in found["nearest_problem"]


@pytest.mark.parametrize("name", ["data/split.csv", "predictions/head.csv", "diagnostics/head/label_suspects.csv"])
def test_a_missing_result_says_what_to_run(root: Path, name: str) -> None:
    """Review cannot start without the results of the head, and says which command writes them."""
    (root / name).unlink()
    with pytest.raises(TableError, match=r"is missing. Run: dvc repro"):
        read_project(root)


def test_without_a_fine_tuned_network_its_queue_is_empty(root: Path) -> None:
    """The queue says which command would fill it."""
    (root / "predictions/finetune.csv").unlink()
    queue = make_queues(read_project(root), Fixes())["disagree"]

    assert not queue.images
    assert "dvc repro finetune" in queue.about


def test_label_noise_is_that_of_the_random_sample(session: Session) -> None:
    """All decided images up to the last one that was decided at random count, also those mended as suspects."""
    queues = make_queues(session.project, Fixes())
    order = queues["random"].images
    whys = {0: "accepted; random", 1: "suspects", 3: "random", 4: "accepted; suspects"}
    fixes = {order[place].digest: LabelFix(order[place].digest, "", "x", why=why) for place, why in whys.items()}
    found = label_noise(
        queues["random"], queues["suspects"], Fixes(by_digest={digest: [fix] for digest, fix in fixes.items()})
    )

    assert {name: found[name] for name in ("num_images", "num_decided", "num_wrong", "num_skipped")} == {
        "num_images": 12,
        "num_decided": 3,
        "num_wrong": 2,
        "num_skipped": 1,
    }
    assert (found["low"], found["high"]) == wilson_interval(2 / 3, 3)
    assert found["num_mended"] == 2


def test_a_decision_far_behind_is_no_part_of_the_sample(session: Session) -> None:
    """Somebody who looks at the end of the random queue does not make a sample of all that was mended elsewhere."""
    queues = make_queues(session.project, Fixes())
    order = queues["random"].images
    whys = {0: "accepted; random", 5: "suspects", 7: "suspects", 11: "accepted; random"}
    rows = {order[place].digest: [LabelFix(order[place].digest, "", "x", why=why)] for place, why in whys.items()}
    found = label_noise(queues["random"], queues["suspects"], Fixes(by_digest=rows))

    assert (found["num_decided"], found["num_wrong"], found["num_skipped"]) == (1, 0, 0)


def test_without_a_random_decision_there_is_no_estimate(session: Session) -> None:
    """Suspects are no random sample: decisions on them alone estimate nothing."""
    suspect = str(rows(session, "suspects")[0]["digest"])
    session.decide([suspect], "green", "suspects", {}, force=False)
    found = session.state()["noise"]

    assert (found["share"], found["low"], found["num_decided"]) == (None, None, 0)
    assert (found["num_suspects_decided"], found["num_suspects_wrong"]) == (1, 1)


def test_to_choose_the_label_that_an_image_has_is_to_accept_it(session: Session) -> None:
    """The key of the class and the key to accept write the same, so that noise counts the label as right."""
    row = rows(session, "random")[0]
    session.decide([str(row["digest"])], str(row["label"]), "random", {}, force=False)
    found = session.state()["noise"]

    assert (found["num_decided"], found["num_wrong"]) == (1, 0)


def test_a_label_counts_as_changed_against_that_of_the_folder(root: Path) -> None:
    """After a retrain the split has the corrected label. To choose it again is a correction, to go back is none."""
    split = read_rows(root / "data/split.csv", SplitRow)
    place = next(place for place, row in enumerate(split) if row.split == "test" and row.label == "red")
    one = split[place] = replace(split[place], label="green")
    write_rows(root / "data/split.csv", split, SplitRow)
    changed = RelabelledRow(one.digest, one.path, "red", "green")
    write_rows(root / "diagnostics/relabelled.csv", [changed], RelabelledRow)
    session = Session(root, "Ann")
    for label, num_changed, why in (("green", 1, "random; test set"), ("red", 0, "accepted; random; test set")):
        session.decide([one.digest], label, "random", {}, force=True)
        fix = session.decisions.fixes().of(one.digest)

        assert fix is not None
        assert (fix.why, session.state()["test_labels_changed"]) == (why, num_changed)
    session.close()


def test_changed_test_labels_are_counted(session: Session) -> None:
    """A new label of a test image counts, an accepted one does not; the reason in the file says so."""
    one, two = (str(row["digest"]) for row in rows(session, "wrong"))
    session.decide([one], None, "wrong", {}, force=False)
    session.decide([two], "green", "wrong", {}, force=False)
    fix = session.decisions.fixes().of(two)

    assert session.state()["test_labels_changed"] == 1
    assert fix is not None
    assert fix.why == "wrong; test set"
