"""Choose the layer and the strength of the head by cross-validation, then fit all training rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headstart.artifacts.features import Features
from headstart.base.errors import ParamsError
from headstart.base.machine import choose_device
from headstart.base.progress import Progress
from headstart.linear.designs import Designs, Machine, are_many
from headstart.linear.folds import make_folds
from headstart.linear.moments import Linear
from headstart.linear.rows import ROWS_FRACTION, Rows
from headstart.linear.selection import Scored, score_ridge
from headstart.linear.targets import make_targets
from headstart.tables.split import SplitRow
from stages.head.kinds import KINDS
from stages.head.params import HeadParams, Params


@dataclass(frozen=True)
class FittedHead:
    """A head and how it was chosen.

    Attributes:
        layer: Name of the layer that the head reads.
        fit: Weights and biases of the head, on embeddings.
        converged: Whether the fit ended before `head.max_iter` iterations.
        scored: The chosen strength and its scores on held-out rows.
        fold_fits: (F,) fits without each fold, on embeddings.
        layers: Scores of the best ridge regression on every candidate layer, by depth.
        ridge_c: Strength of ridge regression on the chosen layer.
        designs: Training rows of the chosen layer, as the solvers read them.
    """

    layer: str
    fit: Linear
    converged: bool
    scored: Scored
    fold_fits: Sequence[Linear]
    layers: Mapping[str, Scored]
    ridge_c: float
    designs: Designs


def fit_head(features: Features, training: Sequence[SplitRow], classes: Sequence[str], params: Params) -> FittedHead:
    """Choose the layer by ridge regression, let the kind of head choose its strength, and fit all training rows.

    Args:
        features: Open features file.
        training: Training rows of the split, by digest.
        classes: (C,) names in the order of the logits.
        params: Sections `head` and `runtime`.

    Raises:
        DataError: There are too few rows for the folds.
        FeatureFileError: An image has no embedding, or its embedding is not finite.
        ParamsError: A layer, a class or the device does not exist.
    """
    head = params.head
    digests, labels = [row.digest for row in training], [row.label for row in training]
    candidates = _candidate_layers(head, features)
    targets = make_targets(labels, classes, head.class_weights, "head.class_weights")
    folds = make_folds(labels, [row.group for row in training], head.folds, head.seed, "head.folds")
    kind = KINDS[head.kind]()
    ridge_grid = kind.ridge_grid(head)
    layers: dict[str, Scored] = {}
    best: tuple[str, Designs, list[Linear]] | None = None
    rows: Rows | None = None
    with Progress("head", len(candidates), "layer") as progress:
        for layer in candidates:
            if rows is not None:
                rows.forget()  # memory holds the rows of one layer at a time
            rows = Rows(features, layer, digests, folds, params.runtime.memory // ROWS_FRACTION)
            # A GPU pays only for many rows, because torch takes seconds to import.
            device = choose_device(params.runtime.device) if are_many(rows, targets) else "cpu"
            designs = Designs(rows, targets, head.folds, Machine(params.runtime.num_workers, device))
            layers[layer], layer_fold_fits = score_ridge(designs, ridge_grid)
            # Of equally good layers the deepest is taken.
            if layers[layer].log_loss == min(scored.log_loss for scored in layers.values()):
                best = layer, designs, layer_fold_fits
            progress.advance(1)
    assert best is not None, "there is at least one candidate"
    layer, designs, ridge_fold_fits = best
    designs.rows.keep()
    ridge_c = layers[layer].c
    assert ridge_c is not None, "ridge regression has a strength"
    scored, fold_fits = kind.score(designs, layers[layer], ridge_fold_fits, head)
    fit, converged = kind.fit(designs, scored, fold_fits, head)
    return FittedHead(layer, fit, converged, scored, fold_fits, layers, ridge_c, designs)


def _candidate_layers(head: HeadParams, features: Features) -> list[str]:
    """Return the layers to choose from, by depth."""
    known = features.spec["layers"]
    unknown = [] if head.layers == "auto" else sorted(set(head.layers) - set(known))
    if unknown:
        raise ParamsError(f"head.layers: found {unknown}; expected auto or some of {known} (see backbone.layers)")
    return [layer for layer in known if head.layers == "auto" or layer in head.layers]
