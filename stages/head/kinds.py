"""Kinds of head: ways to train the linear classifier on the layer that ridge regression chose.

To add one, write a class like `Ridge`, give it an entry in `KINDS`, and add its name to `HeadParams.kind`.
"""

from collections.abc import Sequence
from typing import Protocol

from headstart.linear.designs import Designs
from headstart.linear.moments import Linear
from headstart.linear.selection import (
    LOGISTIC_FACTOR,
    Scored,
    default_tolerance,
    judge,
    refit_logistic,
    score_logistic,
)
from stages.head.params import HeadParams
from stages.head.sgd import fit_sgd


class HeadKind(Protocol):
    """A way to train a linear classifier."""

    def ridge_grid(self, head: HeadParams) -> list[float]:
        """Return the strengths that ridge regression tries while it chooses the layer, ascending."""
        ...

    def score(
        self, designs: Designs, ridge: Scored, ridge_folds: Sequence[Linear], head: HeadParams
    ) -> tuple[Scored, Sequence[Linear]]:
        """Choose the strength and judge it on held-out rows.

        Args:
            designs: Training rows of the chosen layer.
            ridge: What ridge regression found on this layer.
            ridge_folds: (F,) its fits without each fold, on embeddings.
            head: The section `head` of params.yaml.

        Returns:
            The strength with its scores, and the fits without each fold, on embeddings.
        """
        ...

    def fit(self, designs: Designs, scored: Scored, folds: Sequence[Linear], head: HeadParams) -> tuple[Linear, bool]:
        """Fit all training rows.

        Args:
            designs: As for `score`.
            scored: As `score` returned it.
            folds: Fits without each fold, as `score` returned them.
            head: The section `head` of params.yaml.

        Returns:
            The weights on embeddings, and whether the fit converged.
        """
        ...


class Logistic:
    """Multinomial logistic regression. It starts from ridge regression."""

    def ridge_grid(self, head: HeadParams) -> list[float]:
        """See `HeadKind`."""
        return sorted(head.c_grid)

    def score(
        self, designs: Designs, ridge: Scored, ridge_folds: Sequence[Linear], head: HeadParams
    ) -> tuple[Scored, Sequence[Linear]]:
        """See `HeadKind`."""
        c = LOGISTIC_FACTOR * _strength(ridge) if head.c == "auto" else head.c
        return score_logistic(designs, c, ridge_folds, head.max_iter, _tolerance(head, designs))

    def fit(self, designs: Designs, scored: Scored, folds: Sequence[Linear], head: HeadParams) -> tuple[Linear, bool]:
        """See `HeadKind`."""
        return refit_logistic(designs, _strength(scored), folds, head.max_iter, _tolerance(head, designs))


class Ridge:
    """Ridge regression: least squares on targets of 0 and 1."""

    def ridge_grid(self, head: HeadParams) -> list[float]:
        """See `HeadKind`."""
        return sorted(head.c_grid) if head.c == "auto" else [head.c]

    def score(
        self,
        designs: Designs,  # noqa: ARG002 - part of the protocol
        ridge: Scored,
        ridge_folds: Sequence[Linear],
        head: HeadParams,  # noqa: ARG002
    ) -> tuple[Scored, Sequence[Linear]]:
        """See `HeadKind`. The choice of the layer has already chosen and judged the strength."""
        return ridge, ridge_folds

    def fit(
        self,
        designs: Designs,
        scored: Scored,
        folds: Sequence[Linear],  # noqa: ARG002 - part of the protocol
        head: HeadParams,  # noqa: ARG002
    ) -> tuple[Linear, bool]:
        """See `HeadKind`."""
        design = designs.without(None)
        return design.on_embeddings(design.ridge.fit(_strength(scored))), True


class Sgd:
    """The training recipe of the tutorials. It has no strength of regularisation."""

    def ridge_grid(self, head: HeadParams) -> list[float]:
        """See `HeadKind`."""
        return sorted(head.c_grid)

    def score(
        self,
        designs: Designs,
        ridge: Scored,  # noqa: ARG002 - part of the protocol
        ridge_folds: Sequence[Linear],  # noqa: ARG002
        head: HeadParams,
    ) -> tuple[Scored, Sequence[Linear]]:
        """See `HeadKind`."""
        folds = designs.each_fold(lambda fold: fit_sgd(designs.rows, designs.targets, fold, head.sgd, head.seed))
        return judge(designs, None, folds), folds

    def fit(
        self,
        designs: Designs,
        scored: Scored,  # noqa: ARG002 - part of the protocol
        folds: Sequence[Linear],  # noqa: ARG002
        head: HeadParams,
    ) -> tuple[Linear, bool]:
        """See `HeadKind`."""
        return fit_sgd(designs.rows, designs.targets, None, head.sgd, head.seed), True


KINDS: dict[str, type[HeadKind]] = {"logistic": Logistic, "ridge": Ridge, "sgd": Sgd}


def _strength(scored: Scored) -> float:
    assert scored.c is not None, "this kind has a strength"
    return scored.c


def _tolerance(head: HeadParams, designs: Designs) -> float:
    return default_tolerance(designs) if head.tol == "auto" else head.tol
