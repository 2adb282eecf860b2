"""The benchmark of orders in which to label: its contestants, its rounds and its table."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from benchmarks.contestants import head_params
from benchmarks.draws import draw
from benchmarks.labelling import CONTESTANTS, Course, Plan, Stand, at_random, follow, table
from headstart.artifacts.features import open_features
from headstart.artifacts.references import unit_length
from headstart.tables.split import SplitRow
from tests.support.head_data import clusters, digests_of, write_features

NUM = 90


@pytest.mark.parametrize("name", CONTESTANTS)
def test_a_contestant_chooses_different_images_of_the_pool(name: str) -> None:
    """Each contestant names as many positions in the pool as it is asked for, each once."""
    random = np.random.default_rng(0)
    x = unit_length(random.normal(size=(NUM, 12)), [12])
    places = random.permutation(NUM)
    stand = Stand(x, places[:10], places[10:], softmax(2 * random.normal(size=(NUM - 10, 3)), axis=1))
    chosen = np.asarray(CONTESTANTS[name](stand, 7, random))

    assert len(set(chosen.tolist())) == 7
    assert chosen.min() >= 0
    assert chosen.max() < NUM - 10


def test_the_test_images_only_measure(tmp_path: Path) -> None:
    """Labels grow by a batch to the end, accuracies rise on clusters, and labels of test images reach no choice."""
    x, numbers = clusters(NUM, 16, 3)
    rows = [
        SplitRow(digest, f"{number}/{digest}.png", str(number), "train", digest)
        for digest, number in zip(digests_of(NUM), numbers, strict=True)
    ]
    write_features(tmp_path / "f.h5", [row.digest for row in rows], {"last": x[:, 4:]})
    drawn = draw(rows, None, 0)
    plan = Plan(head_params({"kind": "ridge", "layers": ["last"]}), batch=8, most=30)
    asked: list[list[int]] = []

    def watched(stand: Stand, num: int, random: np.random.Generator) -> np.ndarray:
        asked.append(stand.labelled.tolist())
        return at_random(stand, num, random)

    with open_features(tmp_path / "f.h5") as features:
        nums, accuracies = follow(features, drawn, plan, watched, 0)
        before = list(asked)
        renamed = [row if row.split == "train" else SplitRow(row.digest, row.path, "0", "test", "") for row in drawn]
        follow(features, renamed, plan, watched, 0)

    assert nums == [6, 14, 22, 30]
    assert accuracies[-1] > accuracies[0]
    assert asked == 2 * before


def test_the_table_has_medians_and_what_was_never_reached() -> None:
    """The labels at which an accuracy is first reached: the median over the draws, and `never` beyond the end."""
    courses = [
        Course("digits", "random", seed, [20, 30, 40], [0.5, 0.9, last]) for seed, last in enumerate((0.96, 0.91))
    ]

    assert [course.needed(0.95) for course in courses] == [40, np.inf]
    assert table(courses, [0.9, 0.95]).splitlines()[-1] == (
        "| digits | random | 30 (30 to 30) | never (40 to never) | 0.778 |"
    )
