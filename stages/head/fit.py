"""Choose the layer and the regularisation of the head by cross-validation, then fit all training rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headstart.artifacts.features import Features
from headstart.base.errors import ParamsError
from headstart.base.machine import choose_device
from headstart.base.progress import Progress
from headstart.linear.design import DesignMatrices, Resources, is_large
from headstart.linear.folds import make_folds
from headstart.linear.layer_rows import MEMORY_DIVISOR, LayerRows
from headstart.linear.model import LinearModel
from headstart.linear.selection import CrossValidationScore, cross_validate_ridge
from headstart.linear.targets import make_targets
from headstart.tables.split import SplitRow
from stages.head.kinds import KINDS
from stages.head.params import HeadParams, Params


@dataclass(frozen=True)
class FittedHead:
    """A head and how it was chosen. All models are on embeddings: weight float64 (C, dim), bias float64 (C,).

    Attributes:
        layer: Name of the layer that the head reads.
        model: The head, fitted to all training rows.
        converged: Whether the fit ended before `head.max_iter` iterations.
        score: The chosen c and its cross-validation scores.
        fold_models: (F,) models that were each fitted without one fold.
        layer_scores: Scores of the best ridge regression on every candidate layer, by depth.
        ridge_c: The c of ridge regression on the chosen layer.
        designs: Design matrices of the chosen layer.
    """

    layer: str
    model: LinearModel
    converged: bool
    score: CrossValidationScore
    fold_models: Sequence[LinearModel]
    layer_scores: Mapping[str, CrossValidationScore]
    ridge_c: float
    designs: DesignMatrices


def fit_head(features: Features, training: Sequence[SplitRow], classes: Sequence[str], params: Params) -> FittedHead:
    """Choose the layer by ridge regression, let the kind of head choose its c, and fit all training rows.

    Args:
        features: Open features file.
        training: Training rows of the split, by digest.
        classes: (C,) names in the order of the logits.
        params: Sections `head` and `runtime`.

    Raises:
        DataError: There are too few rows for the folds.
        FeatureFileError: An image has no embedding, or its embedding is not finite.
        ParamsError: A layer, a class or the device does not exist.
        TrainingError: Ridge regression has no solution, because c is too large for the precision.
    """
    head = params.head
    digests, labels = [row.digest for row in training], [row.label for row in training]
    candidates = _candidate_layers(head, features)
    targets = make_targets(labels, classes, head.class_weights, "head.class_weights")
    folds = make_folds(labels, [row.group for row in training], head.folds, head.seed, "head.folds")
    kind = KINDS[head.kind]()
    ridge_c_grid = kind.ridge_c_grid(head)
    scores: dict[str, CrossValidationScore] = {}
    best: tuple[str, DesignMatrices, list[LinearModel]] | None = None
    rows: LayerRows | None = None
    with Progress("head", len(candidates), "layer") as progress:
        for layer in candidates:
            if rows is not None:
                rows.release()  # memory holds the rows of one layer at a time
            rows = LayerRows(features, layer, digests, folds, params.runtime.memory // MEMORY_DIVISOR)
            # A GPU pays only for large problems, because torch takes seconds to import.
            device = choose_device(params.runtime.device) if is_large(rows, targets) else "cpu"
            designs = DesignMatrices(rows, targets, head.folds, Resources(params.runtime.num_workers, device))
            scores[layer], layer_fold_models = cross_validate_ridge(designs, ridge_c_grid)
            # Of equally good layers the deepest is taken.
            if scores[layer].log_loss == min(score.log_loss for score in scores.values()):
                best = layer, designs, layer_fold_models
            progress.advance(1)
    assert best is not None, "there is at least one candidate"
    layer, designs, ridge_fold_models = best
    designs.rows.load()
    ridge_c = scores[layer].c
    assert ridge_c is not None, "ridge regression has a c"
    score, fold_models = kind.cross_validate(designs, scores[layer], ridge_fold_models, head)
    model, converged = kind.fit(designs, score, fold_models, head)
    return FittedHead(layer, model, converged, score, fold_models, scores, ridge_c, designs)


def _candidate_layers(head: HeadParams, features: Features) -> list[str]:
    """Return the layers to choose from, by depth."""
    known = features.spec["layers"]
    unknown = [] if head.layers == "auto" else sorted(set(head.layers) - set(known))
    if unknown:
        raise ParamsError(f"head.layers: found {unknown}; expected auto or some of {known} (see backbone.layers)")
    return [layer for layer in known if head.layers == "auto" or layer in head.layers]
