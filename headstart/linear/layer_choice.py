"""Choice of layers: cross-validation on the training rows says which layers the head reads, one or several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.features import Features
from headstart.base.errors import ParamsError
from headstart.base.progress import Progress
from headstart.linear.design import DesignMatrices, Resources
from headstart.linear.fold_ridge import FoldRidge, LayerSet, Problem
from headstart.linear.layer_rows import LayerRows
from headstart.linear.selection import CrossValidationScore, one_standard_error_choice, score_logits
from headstart.linear.targets import Targets
from headstart.linear.trials import KeptTrials, Trial

# Layers are put side by side up to this many columns. The matrices of 3,072 columns and 5 folds take 0.5 GiB. Of more
# columns, the layers with the lowest log loss are put together as far as they fit.
MAX_COLUMNS = 3072
# Sets of layers count as equally good within 1 + _FEW_ROWS / N standard errors, for N rows. With 10 rows, one standard
# error cost 4 points of accuracy (docs/explanation/decisions.md); from a few hundred on, it is as good as any.
_FEW_ROWS = 20

Layers = Sequence[str] | Literal["auto", "all"]


@dataclass(frozen=True)
class LayerChoice:
    """The layers that the head reads, and how they were chosen.

    Attributes:
        scores: Scores of the best ridge regression on every set of layers that was tried, by set.
        designs: Design matrices of the chosen layers.
    """

    scores: Mapping[LayerSet, CrossValidationScore]
    designs: DesignMatrices

    @property
    def layers(self) -> LayerSet:
        """Names of the chosen layers, by depth."""
        return tuple(self.designs.rows.columns)

    @property
    def score(self) -> CrossValidationScore:
        """Score of ridge regression on the chosen layers."""
        return self.scores[self.layers]


class LayerChooser:
    """Tries sets of layers.

    Args:
        features: Open features file.
        digests: (N,) digests of the training images, ascending.
        targets: Targets of these images.
        folds: int64 (N,), fold of every image.
        c_grid: Values of c that ridge regression tries.
        max_bytes: Rows that need more bytes are read from the file in every pass.
        resources_for: Function that returns what the computations on some rows may use.
        kept: Where the trials of the last run are; None to make all of them.
    """

    def __init__(
        self,
        features: Features,
        digests: Sequence[str],
        targets: Targets,
        folds: NDArray[np.int64],
        *,
        c_grid: Sequence[float],
        max_bytes: int,
        resources_for: Callable[[LayerRows, Targets], Resources],
        kept: KeptTrials | None = None,
    ) -> None:
        self._features, self._digests, self._targets, self._folds = features, digests, targets, folds
        self._c_grid, self._max_bytes, self._resources_for = sorted(c_grid), max_bytes, resources_for
        self._num_folds = int(folds.max()) + 1
        self._kept = kept
        self._trials: dict[LayerSet, Trial] = {} if kept is None else kept.load()

    def choose(self, layers: Layers, key: str) -> LayerChoice:
        """Choose layers.

        With `auto`, ridge regression scores each layer alone, then sets that grow from the best layer by the layer that
        lowers the squared error most, and all layers together. Of the sets whose calibrated log loss is not clearly
        above the lowest (`one_standard_error_choice`, on the losses of the rows), the deepest single layer is taken; if
        there is none, the set with the fewest columns.

        Args:
            layers: `auto`, `all`, or the names of the layers to read.
            key: Name of the param in params.yaml, for messages.

        Raises:
            FeatureFileError: An image has no embedding, or its embedding is not finite.
            ParamsError: A layer does not exist, or the layers that were asked for have too many columns.
            TrainingError: Ridge regression has no solution, because c is too large for the precision.
        """
        known = self._features.spec["layers"]
        if layers == "auto":
            return self._choose_among(known, None)
        wanted = known if layers == "all" else layers
        unknown = sorted(set(wanted) - set(known))
        if unknown:
            raise ParamsError(f"{key}: found {unknown}; expected auto, all or some of {known} (see backbone.layers)")
        together = tuple(layer for layer in known if layer in wanted)
        if len(together) > 1 and self._num_columns(together) > MAX_COLUMNS:
            raise ParamsError(
                f"{key}: found layers with {self._num_columns(together)} columns together; expected at most "
                f"{MAX_COLUMNS}. Name fewer layers, or use auto, which puts together as many as fit"
            )
        problem = self._problem(together)
        ridge = FoldRidge(problem)
        if not self._trials:
            self._try(ridge, together, self._c_grid)
            self._keep()
        return self._choice(problem, ridge, together)

    def choose_with(self, layer: str) -> LayerChoice:
        """Choose layers as `choose` does with `auto`, among the sets that include a given layer and grow from it.

        Args:
            layer: Name of a layer of the features file.

        Raises:
            FeatureFileError, TrainingError: As `choose`.
        """
        return self._choose_among(self._features.spec["layers"], layer)

    def _choose_among(self, known: Sequence[str], included: str | None) -> LayerChoice:
        singles, has_all = [(layer,) for layer in known], bool(self._trials)
        with Progress("layers", 0 if has_all else len(known) + 1, "layer") as progress:
            candidates = tuple(known)
            if self._num_columns(candidates) > MAX_COLUMNS:
                for single in () if has_all else singles:
                    self._try(FoldRidge(self._problem(single)), single, self._c_grid)
                    progress.advance(1)
                candidates = self._that_fit(known, included)
            problem = self._problem(candidates)
            ridge = FoldRidge(problem)
            if not has_all:
                for single in singles:
                    if single not in self._trials:
                        self._try(ridge, single, self._c_grid)
                        progress.advance(1)
                if len(candidates) > 1:
                    self._try(ridge, candidates, self._near(self._grow(ridge, candidates, included)))
                progress.advance(1)
                self._keep()
        allowed = [trial for trial in self._trials.values() if included is None or included in trial.layers]
        depth = {layer: place for place, layer in enumerate(known)}
        trials = sorted(
            allowed,
            # Of single layers that are as good the deepest is taken, of sets the one with the fewest columns.
            key=lambda trial: (1, trial.num_columns) if len(trial.layers) > 1 else (0, -depth[trial.layers[0]]),
        )
        # With few rows, the best of many sets is best by luck.
        num_errors = 1 + _FEW_ROWS / len(self._digests)
        chosen = trials[one_standard_error_choice([trial.losses for trial in trials], num_errors)].layers
        if not set(chosen) <= set(candidates):
            problem = self._problem(chosen)
            ridge = FoldRidge(problem)
        return self._choice(problem, ridge, chosen)

    def _grow(self, ridge: FoldRidge, candidates: LayerSet, included: str | None) -> Trial:
        """Try sets that grow from one layer, until the squared error falls no more. Return the last one.

        Args:
            ridge: Ridge regression on the candidates.
            candidates: Layers that may be combined.
            included: The layer to grow from; None: from the best one.
        """
        alone = [self._trials[layer,] for layer in candidates if included in (None, layer)]
        current = min(alone, key=lambda trial: trial.score.log_loss)
        helpful = [layer for layer in candidates if layer not in current.layers]
        while helpful:
            larger = {layer: tuple(one for one in candidates if one in {*current.layers, layer}) for layer in helpful}
            fits = dict(zip(larger, ridge.fit(list(larger.values()), [current.best_c]), strict=True))
            errors = {layer: float(fit.errors.mean()) for layer, fit in fits.items()}
            best = min(errors, key=lambda layer: errors[layer])
            # A layer that does not lower the error now is not tried again: it would hardly do so later.
            helpful = [layer for layer in helpful if errors[layer] < current.error and layer != best]
            if errors[best] >= current.error:
                break
            current = self._try(ridge, larger[best], self._near(current))
        return current

    def _near(self, trial: Trial) -> Sequence[float]:
        """Return the best c of a trial and its neighbours: the best c of a larger set is near it."""
        place = self._c_grid.index(trial.best_c)
        return self._c_grid[max(place - 1, 0) : place + 2]

    def _that_fit(self, known: Sequence[str], included: str | None) -> LayerSet:
        """Return the layers with the lowest log loss that have at most `MAX_COLUMNS` together; at least one.

        A layer that must be included comes first, whatever its log loss.
        """
        taken: list[str] = []
        singles = [trial for trial in self._trials.values() if len(trial.layers) == 1]
        ordered = sorted(singles, key=lambda trial: trial.score.log_loss)
        for trial in sorted(ordered, key=lambda trial: included not in trial.layers):
            if not taken or self._num_columns([*taken, *trial.layers]) <= MAX_COLUMNS:
                taken += trial.layers
        return tuple(layer for layer in known if layer in taken)

    def _try(self, ridge: FoldRidge, layers: LayerSet, c_grid: Sequence[float]) -> Trial:
        if layers not in self._trials:
            (fits,) = ridge.fit([layers], c_grid)
            place = one_standard_error_choice(list(fits.errors.T))
            score, losses = score_logits(fits.logits(place), self._targets.classes, c_grid[place])
            num_columns, row_losses = self._num_columns(layers), losses.astype(np.float32)
            self._trials[layers] = Trial(layers, num_columns, score, fits.errors, row_losses, c_grid)
        return self._trials[layers]

    def _keep(self) -> None:
        if self._kept is not None:
            self._kept.save(list(self._trials.values()))

    def _choice(self, problem: Problem, ridge: FoldRidge, layers: LayerSet) -> LayerChoice:
        rows = problem.rows.select(layers)
        resources = self._resources_for(rows, self._targets)
        on_gpu = None if resources.device == "cpu" else ridge.on_gpu(layers)
        statistics = ridge.statistics(layers)
        designs = DesignMatrices(rows, self._targets, self._num_folds, resources, statistics, on_gpu=on_gpu)
        return LayerChoice({trial.layers: trial.score for trial in self._trials.values()}, designs)

    def _problem(self, layers: LayerSet) -> Problem:
        rows = LayerRows(self._features, layers, self._digests, self._folds, self._max_bytes)
        return Problem(rows, self._targets, self._num_folds, self._resources_for(rows, self._targets))

    def _num_columns(self, layers: Sequence[str]) -> int:
        return sum(self._features.dim(layer) for layer in layers)
