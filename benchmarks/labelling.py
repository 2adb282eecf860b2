"""How many labels the head needs to reach an accuracy, by the order in which images are labelled.

python -m benchmarks.labelling [--photos FOLDER] [--sets FOLDER ...] [--num-seeds 10] [--head layers=[last] kind=ridge]

Each data set is embedded once. Three quarters of its images are the pool, or the training split where the folders name
one; the others only measure. Two images of each class are labelled at first. Then each contestant says which images to
label next, a batch at a time, and the head is trained again.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from benchmarks.contestants import head_params
from benchmarks.data import option
from benchmarks.data_sets import ImageSet, embed, find_sets
from benchmarks.draws import draw, has_own_split
from benchmarks.options import make_parser
from benchmarks.rounds import machine
from headstart.artifacts.features import Features, open_features
from headstart.artifacts.references import unit_length
from headstart.backbone.packaged import INSTALLED
from headstart.base.entry import run_main
from headstart.base.files import write_json
from headstart.tables.classes import class_numbers
from headstart.tables.rows import read_rows
from headstart.tables.split import SplitRow
from stages.head.fit import fit_head
from stages.head.params import Params
from stages.head.pool import choose

OURS = "doubt x coverage (ours)"
_START = 2  # labelled images of each class at first
_TARGETS = (0.90, 0.95)
_TYPICAL = 20  # neighbours of which the mean similarity says how typical an image is


@dataclass(frozen=True)
class Stand:
    """What a contestant knows when it chooses.

    Attributes:
        x: float32 (N, dim), unit-length embeddings of all images that may be labelled.
        labelled: (L,) positions of the labelled images.
        pool: (M,) positions of the others.
        probabilities: float64 (M, C), what the head says of the pool.
    """

    x: NDArray[np.float32]
    labelled: NDArray[np.intp]
    pool: NDArray[np.intp]
    probabilities: NDArray[np.float64]

    @property
    def margin(self) -> NDArray[np.float64]:
        """Return 1 less the margin between the two most probable classes, (M,)."""
        highest = np.sort(self.probabilities, axis=1)
        return 1 - (highest[:, -1] - highest[:, -2])


Contestant = Callable[[Stand, int, np.random.Generator], Sequence[int] | NDArray[np.intp]]


@dataclass(frozen=True)
class Plan:
    """How images are labelled.

    Attributes:
        params: Params of the head.
        batch: Labels of each round.
        most: Labels at which to stop.
    """

    params: Params
    batch: int
    most: int


@dataclass(frozen=True)
class Course:
    """The course of one contestant on one draw.

    Attributes:
        data_set: Name of the data set.
        contestant: Name of the contestant.
        seed: Seed of the draw.
        num_labels: Number of labels at each training of the head.
        accuracy: Accuracy on the test images after each.
    """

    data_set: str
    contestant: str
    seed: int
    num_labels: Sequence[int]
    accuracy: Sequence[float]

    def needed(self, target: float) -> float:
        """Return the number of labels at which an accuracy is first reached; infinite if it never is."""
        reached = (num for num, value in zip(self.num_labels, self.accuracy, strict=True) if value >= target)
        return next(reached, np.inf)


def at_random(stand: Stand, num: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Choose at random."""
    return random.permutation(len(stand.pool))[:num]


def by_margin(stand: Stand, num: int, _: np.random.Generator) -> NDArray[np.intp]:
    """Choose where the two most probable classes are nearly equal (Scheffer et al. 2001)."""
    return np.argsort(-stand.margin, kind="stable")[:num]


def by_entropy(stand: Stand, num: int, _: np.random.Generator) -> NDArray[np.intp]:
    """Choose where the probabilities have the largest entropy."""
    entropy = -(stand.probabilities * np.log(np.maximum(stand.probabilities, 1e-12))).sum(axis=1)
    return np.argsort(-entropy, kind="stable")[:num]


def by_core_set(stand: Stand, num: int, _: np.random.Generator) -> list[int]:
    """Choose the image that is furthest from all labelled and chosen ones (Sener and Savarese 2018)."""
    x = stand.x[stand.pool]
    nearest = (x @ stand.x[stand.labelled].T).max(axis=1)
    chosen: list[int] = []
    for _step in range(num):
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, x @ x[chosen[-1]])
    return chosen


def by_badge(stand: Stand, num: int, random: np.random.Generator) -> list[int]:
    """Choose by k-means++ on the gradients of the last layer (BADGE, Ash et al. 2020)."""
    x, errors = stand.x[stand.pool], stand.probabilities.copy()
    errors[np.arange(len(errors)), errors.argmax(axis=1)] -= 1
    lengths = (errors**2).sum(axis=1)  # the gradient is the outer product of error and embedding
    chosen, distance = [int(lengths.argmax())], np.full(len(x), np.inf)
    while True:
        last = chosen[-1]
        distance = np.minimum(distance, lengths + lengths[last] - 2 * (errors @ errors[last]) * (x @ x[last]))
        weights = np.maximum(distance, 0)
        weights[chosen] = 0
        if len(chosen) == num or not weights.any():
            return chosen
        chosen.append(int(random.choice(len(x), p=weights / weights.sum())))


def by_typicality(stand: Stand, num: int, random: np.random.Generator) -> list[int]:
    """Choose the most typical image of each large cluster without a label (TypiClust, Hacohen et al. 2022)."""
    together = np.concatenate([stand.labelled, stand.pool])
    num_clusters = min(len(stand.labelled) + num, 500, len(together))
    seed = int(random.integers(2**31))
    of = KMeans(num_clusters, n_init=1, max_iter=30, random_state=seed).fit_predict(stand.x[together])
    in_pool = of[len(stand.labelled) :]
    num_labelled = np.bincount(of[: len(stand.labelled)], minlength=num_clusters)
    order = np.lexsort([-np.bincount(of, minlength=num_clusters), num_labelled])
    chosen: list[int] = []
    for cluster in order:
        members = np.flatnonzero(in_pool == cluster)
        if len(members) and len(chosen) < num:
            similarity = np.sort(stand.x[stand.pool[members]] @ stand.x[together[of == cluster]].T, axis=1)
            chosen.append(int(members[similarity[:, -_TYPICAL:].mean(axis=1).argmax()]))
    return chosen


def by_doubt_and_coverage(stand: Stand, num: int, _: np.random.Generator) -> list[int]:
    """Choose as the stage `head` does."""
    places, _scores = choose(stand.x[stand.pool], np.maximum(stand.margin, 1e-6), num)
    return places


CONTESTANTS: Mapping[str, Contestant] = {
    "random": at_random,
    "margin": by_margin,
    "entropy": by_entropy,
    "core-set": by_core_set,
    "BADGE": by_badge,
    "TypiClust": by_typicality,
    OURS: by_doubt_and_coverage,
}


def follow(
    features: Features, rows: Sequence[SplitRow], plan: Plan, contestant: Contestant, seed: int
) -> tuple[list[int], list[float]]:
    """Label a batch at a time. Return the numbers of labels and the accuracies on the test images.

    Args:
        features: Open features file.
        rows: Rows of the draw, by digest, with the split `train` or `test`.
        plan: The head, the batches and the end.
        contestant: Who chooses.
        seed: Seed of the first labels, of the folds, and of a contestant that needs chance.
    """
    classes = sorted({row.label for row in rows})
    training, test = ([row for row in rows if (row.split == "test") is tested] for tested in (False, True))
    truth = class_numbers([row.label for row in training], classes)
    wanted = class_numbers([row.label for row in test], classes)
    random = np.random.default_rng(seed)
    labelled = np.concatenate([random.permutation(np.flatnonzero(truth == c))[:_START] for c in range(len(classes))])
    nums, accuracies = [], []
    while True:
        known = [training[place] for place in np.sort(labelled)]
        folds = max(2, min(plan.params.head.folds, int(np.bincount(truth[labelled]).max())))
        head = plan.params.head.model_copy(update={"folds": folds, "seed": seed})
        fitted = fit_head(features, known, classes, plan.params.model_copy(update={"head": head}))
        x, tested = (_embeddings(features, fitted.layers, part) for part in (training, test))
        nums.append(len(labelled))
        accuracies.append(float((fitted.model.logits(tested).argmax(axis=1) == wanted).mean()))
        pool = np.setdiff1d(np.arange(len(training)), labelled)
        if len(labelled) >= plan.most or not len(pool):
            return nums, accuracies
        probabilities = softmax(fitted.model.logits(x[pool]) / fitted.score.temperature, axis=1)
        unit = unit_length(x, [features.dim(layer) for layer in fitted.layers])
        chosen = contestant(Stand(unit, labelled, pool, probabilities), min(plan.batch, len(pool)), random)
        labelled = np.concatenate([labelled, pool[np.asarray(chosen)]])


def _embeddings(features: Features, layers: Sequence[str], rows: Sequence[SplitRow]) -> NDArray[np.float32]:
    digests = [row.digest for row in rows]
    return np.concatenate([features.read(layer, digests).mean(axis=1) for layer in layers], axis=1)


def measure(image_set: ImageSet, contestants: Mapping[str, Contestant], plan: Plan, num_seeds: int) -> list[Course]:
    """Embed a data set and follow every contestant on every draw."""
    project = embed(image_set, INSTALLED)
    rows = sorted(read_rows(project / "data/split.csv", SplitRow), key=lambda row: row.digest)
    courses = []
    with open_features(project / "features/features.h5") as features, threadpool_limits(limits=1):
        for seed in range(num_seeds):
            drawn = rows if has_own_split(rows) else draw(rows, None, seed)
            for name, contestant in contestants.items():
                found = follow(features, drawn, plan, contestant, seed)
                courses.append(Course(image_set.name, name, seed, *found))
                print(f"  {image_set.name}, seed {seed}: {name} {found[1][-1]:.3f}", file=sys.stderr, flush=True)
    return courses


def table(courses: Sequence[Course], targets: Sequence[float]) -> str:
    """Return a Markdown table: labels needed for each accuracy, and the mean accuracy over all rounds.

    The labels are the median over the draws, with the 10th and the 90th percentile.
    """
    lines = ["| data | order | " + " | ".join(f"labels for {target:g}" for target in targets) + " | mean accuracy |"]
    lines.append("|---" * (len(targets) + 3) + "|")
    for data_set, name in dict.fromkeys((one.data_set, one.contestant) for one in courses):
        some = [one for one in courses if (one.data_set, one.contestant) == (data_set, name)]
        cells = []
        for target in targets:
            needed = [one.needed(target) for one in some]
            found = [
                np.quantile(needed, 0.5, method="higher"),
                np.quantile(needed, 0.1, method="lower"),
                np.quantile(needed, 0.9, method="higher"),
            ]
            cells.append("{} ({} to {})".format(*("never" if np.isinf(num) else f"{num:.0f}" for num in found)))
        mean = np.mean([np.mean(one.accuracy) for one in some])
        lines.append(f"| {data_set} | {name} | {' | '.join(cells)} | {mean:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure on every data set at hand, and print the table."""
    default = "(default: %(default)s)"
    parser = make_parser(__doc__)
    parser.add_argument("--photos", type=Path, help="folder of ants & bees (default: data/ants_bees)")
    parser.add_argument(
        "--sets", type=Path, nargs="+", default=[], help="folders of more data sets, with class folders"
    )
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), help="only these contestants")
    parser.add_argument("--num-seeds", type=int, default=10, help=f"draws of each data set {default}")
    parser.add_argument("--batch", type=int, default=10, help=f"labels of each round {default}")
    parser.add_argument("--most", type=int, default=160, help=f"labels at the end {default}")
    text = f"accuracies to reach {default}"
    parser.add_argument("--targets", type=float, nargs="+", default=_TARGETS, help=text)
    text = "the head: KEY=VALUE in the section `head` of params.yaml (default: ridge regression on all layers)"
    head: Sequence[tuple[str, object]] = [("kind", "ridge"), ("layers", "all")]
    parser.add_argument("--head", type=option, nargs="*", default=head, metavar="KEY=VALUE", help=text)
    parser.add_argument("--out", type=Path, default=Path(".cache/bench_labelling.json"), help=f"JSON file {default}")
    given = parser.parse_args()
    sets, skipped = find_sets(given.photos, given.sets)
    print("\n".join([machine(), *skipped]), flush=True)
    contestants = {name: CONTESTANTS[name] for name in given.only or CONTESTANTS}
    plan = Plan(head_params(dict(given.head)), given.batch, given.most)
    courses: list[Course] = []
    for image_set in sets:
        courses += measure(image_set, contestants, plan, given.num_seeds)
        write_json(given.out, {"machine": machine(), "courses": [asdict(course) for course in courses]})
    print(f"\n{table(courses, given.targets)}\n")


if __name__ == "__main__":
    run_main("bench-labelling", main)
