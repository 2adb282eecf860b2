"""Kinds of head: ways to train the linear classifier on the layers that ridge regression chose.

To add a kind, write a class like `RidgeHead`, give it an entry in `KINDS`, and add its name to `HeadParams.kind`.
"""

from collections.abc import Sequence
from typing import Protocol

from headstart.linear.design import DesignMatrices
from headstart.linear.model import LinearModel
from headstart.linear.selection import (
    LOGISTIC_C_FACTOR,
    CrossValidationScore,
    cross_validate_logistic,
    default_tolerance,
    refit_logistic,
    score_folds,
)
from stages.head.params import HeadParams
from stages.head.sgd import fit_sgd


class HeadKind(Protocol):
    """A way to train a linear classifier. All models are on embeddings: weight float64 (C, dim), bias float64 (C,)."""

    def ridge_c_grid(self, head: HeadParams) -> list[float]:
        """Return the values of c, ascending, that ridge regression tries when it chooses the layers."""
        ...

    def cross_validate(
        self,
        designs: DesignMatrices,
        ridge_score: CrossValidationScore,
        ridge_fold_models: Sequence[LinearModel],
        head: HeadParams,
    ) -> tuple[CrossValidationScore, Sequence[LinearModel]]:
        """Choose c, fit a model without each fold, and score it on the held-out fold.

        Args:
            designs: Design matrices of the chosen layers.
            ridge_score: The c of ridge regression on these layers, with its scores.
            ridge_fold_models: (F,) models of ridge regression, each fitted without its fold.
            head: The section `head` of params.yaml.

        Returns:
            The chosen c with its scores, and the models, (F,), each fitted without its fold.
        """
        ...

    def fit(
        self,
        designs: DesignMatrices,
        score: CrossValidationScore,
        fold_models: Sequence[LinearModel],
        head: HeadParams,
    ) -> tuple[LinearModel, bool]:
        """Fit all training rows.

        Args:
            designs: Design matrices of the chosen layers.
            score: The chosen c with its scores, as `cross_validate` returned them.
            fold_models: (F,) models, as `cross_validate` returned them.
            head: The section `head` of params.yaml.

        Returns:
            The model, and whether the fit converged.
        """
        ...


class LogisticHead:
    """Multinomial logistic regression. Its fits start from those of ridge regression."""

    def ridge_c_grid(self, head: HeadParams) -> list[float]:
        """See `HeadKind`."""
        return sorted(head.c_grid)

    def cross_validate(
        self,
        designs: DesignMatrices,
        ridge_score: CrossValidationScore,
        ridge_fold_models: Sequence[LinearModel],
        head: HeadParams,
    ) -> tuple[CrossValidationScore, Sequence[LinearModel]]:
        """See `HeadKind`. If `head.c` is auto, c is a fixed multiple of the c of ridge regression."""
        c = LOGISTIC_C_FACTOR * _c_of(ridge_score) if head.c == "auto" else head.c
        return cross_validate_logistic(designs, c, ridge_fold_models, head.max_iter, _tolerance(head, designs))

    def fit(
        self,
        designs: DesignMatrices,
        score: CrossValidationScore,
        fold_models: Sequence[LinearModel],
        head: HeadParams,
    ) -> tuple[LinearModel, bool]:
        """See `HeadKind`."""
        return refit_logistic(designs, _c_of(score), fold_models, head.max_iter, _tolerance(head, designs))


class RidgeHead:
    """Ridge regression: least squares on targets of 0 and 1."""

    def ridge_c_grid(self, head: HeadParams) -> list[float]:
        """See `HeadKind`."""
        return sorted(head.c_grid) if head.c == "auto" else [head.c]

    def cross_validate(
        self,
        designs: DesignMatrices,
        ridge_score: CrossValidationScore,
        ridge_fold_models: Sequence[LinearModel],
        head: HeadParams,  # noqa: ARG002 - part of the protocol
    ) -> tuple[CrossValidationScore, Sequence[LinearModel]]:
        """See `HeadKind`. The choice of the layers has chosen c already."""
        return score_folds(designs, ridge_score.c, ridge_fold_models), ridge_fold_models

    def fit(
        self,
        designs: DesignMatrices,
        score: CrossValidationScore,
        fold_models: Sequence[LinearModel],  # noqa: ARG002 - part of the protocol
        head: HeadParams,  # noqa: ARG002
    ) -> tuple[LinearModel, bool]:
        """See `HeadKind`."""
        return designs.ridge(designs.all_rows(), _c_of(score)), True


class SgdHead:
    """The training recipe of the tutorials: stochastic gradient descent without an L2 penalty, so without c."""

    def ridge_c_grid(self, head: HeadParams) -> list[float]:
        """See `HeadKind`."""
        return sorted(head.c_grid)

    def cross_validate(
        self,
        designs: DesignMatrices,
        ridge_score: CrossValidationScore,  # noqa: ARG002 - part of the protocol
        ridge_fold_models: Sequence[LinearModel],  # noqa: ARG002
        head: HeadParams,
    ) -> tuple[CrossValidationScore, Sequence[LinearModel]]:
        """See `HeadKind`."""
        models = designs.map_folds(lambda fold: fit_sgd(designs.rows, designs.targets, fold, head.sgd, head.seed))
        return score_folds(designs, None, models), models

    def fit(
        self,
        designs: DesignMatrices,
        score: CrossValidationScore,  # noqa: ARG002 - part of the protocol
        fold_models: Sequence[LinearModel],  # noqa: ARG002
        head: HeadParams,
    ) -> tuple[LinearModel, bool]:
        """See `HeadKind`."""
        return fit_sgd(designs.rows, designs.targets, None, head.sgd, head.seed), True


KINDS: dict[str, type[HeadKind]] = {"logistic": LogisticHead, "ridge": RidgeHead, "sgd": SgdHead}


def _c_of(score: CrossValidationScore) -> float:
    assert score.c is not None, "this kind of head has a c"
    return score.c


def _tolerance(head: HeadParams, designs: DesignMatrices) -> float:
    return default_tolerance(designs) if head.tol == "auto" else head.tol
