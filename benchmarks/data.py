"""The head and its rivals on the same embeddings and the same draws of several data sets: accuracy, log loss, seconds.

python -m benchmarks.data [--sets FOLDER ...] [--head layers=[last] kind=ridge] [--head ...] [--num-seeds 5]

Each data set is embedded once. Then 5, 20, 100 and all training images of each class are drawn with several seeds.
`all` is three quarters of the images, or the training split where the folders name one. Second, the head is trained on
every backbone that needs no download. The numbers of each run go to a JSON file.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from benchmarks.cells import Run, is_right, markdown, scores_of, tables
from benchmarks.contestants import OURS, Contestant, Task, head, head_params, rivals, train
from benchmarks.data_sets import ImageSet, embed, find_sets, packaged_backbones
from benchmarks.draws import draw, has_own_split, sizes_of
from benchmarks.options import make_parser
from benchmarks.rounds import machine
from headstart.artifacts.features import open_features
from headstart.backbone.packaged import INSTALLED
from headstart.base.entry import run_main
from headstart.base.files import write_json
from headstart.tables.rows import read_rows
from headstart.tables.split import SplitRow
from stages.head.params import Params

SIZES = (5, 20, 100)
FINE_TUNED = ("digits", "ants & bees")  # the other sets would take hours


def draws_of(
    rows: Sequence[SplitRow], sizes: Sequence[int], num_seeds: int
) -> Iterator[tuple[str, int, list[SplitRow]]]:
    """Yield the size, the seed and the rows of every draw.

    A split that the folders give is the same for every seed, so it comes once.
    """
    for size in sizes_of(rows, sizes):
        for seed in range(num_seeds):
            yield str(size), seed, draw(rows, size, seed)
    yield from whole_draws(rows, num_seeds)


def whole_draws(rows: Sequence[SplitRow], num_seeds: int) -> Iterator[tuple[str, int, list[SplitRow]]]:
    """Yield `all`, the seed and the rows of the draws of as many training images as there are."""
    if has_own_split(rows):
        yield "all", 0, list(rows)
    else:
        for seed in range(num_seeds):
            yield "all", seed, draw(rows, None, seed)


def compete(name: str, size: str, seed: int, task: Task, contestants: Mapping[str, Contestant]) -> list[Run]:
    """Run every contestant on one draw, the head first."""
    runs: list[Run] = []
    ours = np.empty(0, dtype=np.bool_)
    for contestant, run in contestants.items():
        predictions, seconds = run(task)
        right, scores = is_right(predictions), scores_of(predictions)
        ours = right if contestant == OURS else ours
        runs.append(
            Run(
                *(name, size, seed, contestant, len(task.part("train")), len(right), int(right.sum())),
                *(scores["log_loss"], scores["calibration_error"], seconds),
                *(int((ours & ~right).sum()), int((right & ~ours).sum())),
            )
        )
    return runs


def measure_set(
    image_set: ImageSet,
    contestants: Mapping[str, Contestant],
    slow: Mapping[str, Contestant],
    sizes: Sequence[int],
    num_seeds: int,
) -> list[Run]:
    """Embed a data set and run every contestant on every draw, the slow ones only on the first draw of `all`."""
    project = embed(image_set, INSTALLED)
    rows = read_rows(project / "data/split.csv", SplitRow)
    classes = sorted({row.label for row in rows})
    runs = []
    with open_features(project / "features/features.h5") as features:
        for size, seed, drawn in draws_of(rows, sizes, num_seeds):
            now = {**contestants, **(slow if (size, seed) == ("all", 0) else {})}
            runs += compete(image_set.name, size, seed, Task(features, drawn, classes), now)
            found = ", ".join(f"{run.contestant} {run.num_right / run.num_test:.3f}" for run in runs[-len(now) :])
            print(f"  {image_set.name}, {size}, seed {seed}: {found}", file=sys.stderr, flush=True)
    return runs


def measure_backbone(image_set: ImageSet, backbone: str, params: Params, num_seeds: int) -> dict[str, object]:
    """Train the head on all training images, and return its scores: means over the seeds.

    Args:
        image_set: The data set.
        backbone: Name of the backbone, or its name and the file of its weights as NAME=FILE.
        params: Params of the head.
        num_seeds: Number of draws.
    """
    backbone, _, file = backbone.partition("=")
    project = embed(image_set, backbone, Path(file) if file else None)
    rows = read_rows(project / "data/split.csv", SplitRow)
    classes = sorted({row.label for row in rows})
    found = []
    with open_features(project / "features/features.h5") as features:
        for _, _, drawn in whole_draws(rows, num_seeds):
            trained = train(Task(features, drawn, classes), params)
            test, score = scores_of(trained.predictions), trained.fitted.score
            found.append((score.log_loss, score.accuracy, test["accuracy"], test["log_loss"]))
    names = ("cv_log_loss", "cv_accuracy", "accuracy", "log_loss")
    means = dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))
    return {"data_set": image_set.name, "backbone": backbone, **means}


def backbone_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return a Markdown table, in which cross-validation ranks the backbones of each data set."""
    header = [
        "data",
        "backbone",
        "cross-validated log loss",
        "cross-validated accuracy",
        "test accuracy",
        "test log loss",
    ]
    body = [
        [str(row["data_set"]), str(row["backbone"]), *(f"{row[name]:.4f}" for name in list(row)[2:])] for row in rows
    ]
    return "\n".join(markdown(header, body))


def _fine_tuning(image_set: ImageSet, num_epochs: int) -> dict[str, Contestant]:
    if image_set.name not in FINE_TUNED or not num_epochs:
        return {}
    from benchmarks.tutorial import tutorial  # here, because torch takes seconds to import

    return {f"fine-tuning, {num_epochs} epochs": tutorial(image_set.folder, num_epochs)}


def option(text: str) -> tuple[str, object]:
    """Read `KEY=VALUE`, whose value is YAML."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, YAML(typ="safe").load(value)


def main() -> None:
    """Measure on every data set at hand, and print the tables."""
    default = "(default: %(default)s)"
    parser = make_parser(__doc__)
    parser.add_argument("--photos", type=Path, help="folder of ants & bees (default: data/ants_bees)")
    text = "folders of more data sets, with class folders"
    parser.add_argument("--sets", type=Path, nargs="+", default=[], help=text)
    text = "another head to compare: KEY=VALUE in the section `head` of params.yaml; may be given again"
    parser.add_argument("--head", type=option, nargs="+", action="append", default=[], metavar="KEY=VALUE", help=text)
    parser.add_argument("--num-seeds", type=int, default=5, help=f"draws of each size {default}")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help=f"training images of each class {default}")
    text = f"backbones of the second table, each NAME or NAME=FILE with its weights {default}"
    parser.add_argument("--backbones", nargs="*", default=packaged_backbones(), help=text)
    text = f"epochs of the tutorial's fine-tuning on one draw of {' and '.join(FINE_TUNED)}, 0 for none {default}"
    parser.add_argument("--finetuning", type=int, default=0, metavar="EPOCHS", help=text)
    parser.add_argument("--out", type=Path, default=Path(".cache/bench_data/results.json"), help=f"JSON file {default}")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn warns of every fit that ends at its limit of iterations
    params = head_params({})
    variants = {
        f"{OURS}, {', '.join(f'{key}={value}' for key, value in options)}": head(head_params(dict(options)))
        for options in given.head
    }
    contestants = {OURS: head(params), **variants, **rivals(params)}
    sets, skipped = find_sets(given.photos, given.sets)
    print("\n".join([machine(), *skipped]), flush=True)
    runs: list[Run] = []
    backbones: list[dict[str, object]] = []
    for image_set in sets:
        slow = _fine_tuning(image_set, given.finetuning)
        runs += measure_set(image_set, contestants, slow, given.sizes, given.num_seeds)
        ranked = [measure_backbone(image_set, name, params, given.num_seeds) for name in given.backbones]
        backbones += sorted(ranked, key=lambda row: float(str(row["cv_log_loss"])))
        write_json(given.out, {"machine": machine(), "runs": [asdict(run) for run in runs], "backbones": backbones})
    print(f"\n{tables(runs)}\n\n{backbone_table(backbones)}\n")
    print(f"The numbers of each run: {given.out}")


if __name__ == "__main__":
    run_main("bench-data", main)
