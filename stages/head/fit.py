"""Fitting: the layer and the strength are chosen by cross-validation, then all training rows are fitted with them."""

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
class Fitted:
    """A head and how it was chosen.

    Attributes:
        layer: The layer that it reads.
        fit: Weights of the head, on embeddings.
        converged: Whether the fit ended before `head.max_iter`.
        scored: The chosen strength, judged by the folds.
        folds: (F,) its fits without each fold, on embeddings.
        layers: Best ridge regression of every candidate layer, by depth.
        ridge_c: Strength of the chosen layer's.
        designs: Designs of the chosen layer.
    """

    layer: str
    fit: Linear
    converged: bool
    scored: Scored
    folds: Sequence[Linear]
    layers: Mapping[str, Scored]
    ridge_c: float
    designs: Designs


def fit_head(features: Features, training: Sequence[SplitRow], classes: Sequence[str], params: Params) -> Fitted:
    """Choose the layer by ridge regression, the strength by the kind of head that is asked for, and fit all rows.

    Args:
        features: Open features file.
        training: The training rows, by digest.
        classes: (C,) order of the logits.
        params: The sections `head` and `runtime`.

    Raises:
        DataError: Too few rows for the folds.
        FeatureFileError: An image without an embedding, or one that is not finite.
        ParamsError: A layer, a class or a device that is not there.
    """
    head = params.head
    digests, labels = [row.digest for row in training], [row.label for row in training]
    candidates = _candidates(head, features)
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
                rows.forget()  # one layer's at a time
            rows = Rows(features, layer, digests, folds, params.runtime.memory // ROWS_FRACTION)
            # A GPU pays where rows are many: torch takes seconds to import.
            device = choose_device(params.runtime.device) if are_many(rows, targets) else "cpu"
            designs = Designs(rows, targets, head.folds, Machine(params.runtime.num_workers, device))
            layers[layer], folds_of_layer = score_ridge(designs, ridge_grid)
            if layers[layer].log_loss == min(scored.log_loss for scored in layers.values()):  # of equals the deepest
                best = layer, designs, folds_of_layer
            progress.advance(1)
    assert best is not None, "there is a candidate"
    layer, designs, ridge_folds = best
    designs.rows.keep()
    ridge_c = layers[layer].c
    assert ridge_c is not None, "ridge regression has a strength"
    scored, of_folds = kind.score(designs, layers[layer], ridge_folds, head)
    fit, converged = kind.fit(designs, scored, of_folds, head)
    return Fitted(layer, fit, converged, scored, of_folds, layers, ridge_c, designs)


def _candidates(head: HeadParams, features: Features) -> list[str]:
    """Return the layers to choose from, by depth."""
    there = features.spec["layers"]
    unknown = [] if head.layers == "auto" else sorted(set(head.layers) - set(there))
    if unknown:
        raise ParamsError(f"head.layers: found {unknown}; expected auto or some of {there} (see backbone.layers)")
    return [layer for layer in there if head.layers == "auto" or layer in head.layers]
