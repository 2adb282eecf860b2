"""Choose the layers and the regularisation of the head by cross-validation, then fit all training rows."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.artifacts.features import Features
from headstart.base.files import sha256_file
from headstart.base.machine import choose_device, make_repeatable
from headstart.base.progress import Progress
from headstart.linear.design import DesignMatrices, Resources, is_large
from headstart.linear.fold_ridge import LayerSet
from headstart.linear.folds import make_folds
from headstart.linear.layer_choice import LayerChooser
from headstart.linear.layer_rows import MEMORY_DIVISOR, LayerRows
from headstart.linear.model import LinearModel
from headstart.linear.selection import CrossValidationScore
from headstart.linear.targets import Targets, make_targets
from headstart.linear.trials import KeptTrials
from headstart.tables.split import SplitRow
from stages.head.kinds import KINDS
from stages.head.params import Params


@dataclass(frozen=True)
class FittedHead:
    """A head and how it was chosen. All models are on embeddings: weight float64 (C, dim), bias float64 (C,).

    Attributes:
        kind: Name of the method that fitted the head: `logistic`, `ridge` or `sgd`.
        layers: Names of the layers that the head reads, by depth. Their embeddings lie side by side.
        model: The head, fitted to all training rows.
        converged: Whether the fit ended before `head.max_iter` iterations.
        score: The chosen c and its cross-validation scores.
        fold_models: (F,) models that were each fitted without one fold.
        layer_scores: Scores of the best ridge regression on every set of layers that was tried, by set.
        ridge_c: The c of ridge regression on the chosen layers.
        designs: Design matrices of the chosen layers.
    """

    kind: str
    layers: LayerSet
    model: LinearModel
    converged: bool
    score: CrossValidationScore
    fold_models: Sequence[LinearModel]
    layer_scores: Mapping[LayerSet, CrossValidationScore]
    ridge_c: float
    designs: DesignMatrices


def fit_head(
    features: Features,
    training: Sequence[SplitRow],
    classes: Sequence[str],
    params: Params,
    trials_path: Path | None = None,
) -> FittedHead:
    """Choose the layers by ridge regression, let the kind of head choose the rest, and fit all training rows.

    Args:
        features: Open features file.
        training: Training rows of the split, by digest.
        classes: (C,) names in the order of the logits.
        params: Sections `head` and `runtime`.
        trials_path: File with the trials of sets of layers of the last run, which is replaced if this run needs others.
            None: all trials are made, and none is kept.

    Raises:
        DataError: There are too few rows for the folds.
        FeatureFileError: An image has no embedding, or its embedding is not finite.
        ParamsError: A layer, a class or the device does not exist.
        TrainingError: Ridge regression has no solution, because c is too large for the precision.
    """
    head = params.head
    labels = [row.label for row in training]

    def resources_for(rows: LayerRows, targets: Targets) -> Resources:
        # A GPU pays only for large problems, because torch takes seconds to import. Apple's GPUs have no float64.
        device = choose_device(params.runtime.device) if is_large(rows, targets) else "cpu"
        if not device.startswith("cuda"):
            return Resources(params.runtime.num_workers, "cpu")
        make_repeatable()
        return Resources(params.runtime.num_workers, device)

    kind = KINDS[head.kind]()
    digests, c_grid = [row.digest for row in training], kind.ridge_c_grid(head)
    targets = make_targets(labels, classes, head.class_weights, "head.class_weights")
    folds = make_folds(labels, [row.group for row in training], head.folds, head.seed, "head.folds")

    def depends_on() -> dict[str, Any]:
        arrays = {"classes": targets.classes, "sample_weights": targets.sample_weights, "folds": folds}
        return {
            "features": sha256_file(features.path),
            "digests": digests,
            **{name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()},
            "layers": head.layers,
            "c_grid": c_grid,
            "device": params.runtime.device,
        }

    chooser = LayerChooser(
        features,
        digests,
        targets,
        folds,
        c_grid=c_grid,
        max_bytes=params.runtime.memory // MEMORY_DIVISOR,
        resources_for=resources_for,
        kept=None if trials_path is None else KeptTrials(trials_path, depends_on()),
    )
    choice = chooser.choose(head.layers, "head.layers")
    ridge_c = choice.score.c
    assert ridge_c is not None, "ridge regression has a c"
    with Progress("head", 2, "fit") as progress:
        validated = kind.cross_validate(choice.designs, ridge_c, head)
        progress.advance(1)
        model, converged = kind.fit(choice.designs, validated, head)
        progress.advance(1)
    return FittedHead(
        kind=validated.kind,
        layers=choice.layers,
        model=model,
        converged=converged,
        score=validated.score,
        fold_models=validated.models,
        layer_scores=choice.scores,
        ridge_c=ridge_c,
        designs=choice.designs,
    )
