"""Kinds of head: ways to train the linear classifier on the layers that ridge regression chose.

To add a kind, write a class like `SgdHead`, give it an entry in `KINDS`, and add its name to `HeadParams.kind`.
"""

from typing import Protocol

from headstart.linear.design import DesignMatrices
from headstart.linear.model import LinearModel
from headstart.linear.selection import (
    LOGISTIC_C_FACTOR,
    CrossValidated,
    choose_kind,
    cross_validate_logistic,
    cross_validate_ridge,
    default_tolerance,
    refit,
    ridge_fold_models,
    score_folds,
)
from stages.head.params import HeadParams
from stages.head.sgd import fit_sgd


class HeadKind(Protocol):
    """A way to train a linear classifier. All models are on embeddings: weight float64 (C, dim), bias float64 (C,)."""

    def ridge_c_grid(self, head: HeadParams) -> list[float]:
        """Return the values of c, ascending, that ridge regression tries when it chooses the layers."""
        ...

    def cross_validate(self, designs: DesignMatrices, ridge_c: float, head: HeadParams) -> CrossValidated:
        """Choose c, fit a model without each fold, and score it on the held-out fold.

        Args:
            designs: Design matrices of the chosen layers.
            ridge_c: The c of ridge regression on these layers.
            head: The section `head` of params.yaml.
        """
        ...

    def fit(self, designs: DesignMatrices, validated: CrossValidated, head: HeadParams) -> tuple[LinearModel, bool]:
        """Fit all training rows.

        Args:
            designs: Design matrices of the chosen layers.
            validated: What `cross_validate` returned.
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

    def cross_validate(self, designs: DesignMatrices, ridge_c: float, head: HeadParams) -> CrossValidated:
        """See `HeadKind`. If `head.c` is auto, c is a fixed multiple of the c of ridge regression."""
        c = LOGISTIC_C_FACTOR * ridge_c if head.c == "auto" else head.c
        starts = ridge_fold_models(designs, ridge_c)
        return cross_validate_logistic(designs, c, starts, head.max_iter, _tolerance(head, designs))

    def fit(self, designs: DesignMatrices, validated: CrossValidated, head: HeadParams) -> tuple[LinearModel, bool]:
        """See `HeadKind`."""
        return refit(designs, validated, head.max_iter, _tolerance(head, designs))


class RidgeHead(LogisticHead):
    """Ridge regression: least squares on targets of 0 and 1."""

    def ridge_c_grid(self, head: HeadParams) -> list[float]:
        """See `HeadKind`."""
        return sorted(head.c_grid) if head.c == "auto" else [head.c]

    def cross_validate(
        self,
        designs: DesignMatrices,
        ridge_c: float,
        head: HeadParams,  # noqa: ARG002 - part of the protocol
    ) -> CrossValidated:
        """See `HeadKind`. The choice of the layers has chosen c already."""
        return cross_validate_ridge(designs, ridge_c)


class AutoHead(LogisticHead):
    """Logistic or ridge regression, whichever has the lower cross-validated log loss."""

    def cross_validate(self, designs: DesignMatrices, ridge_c: float, head: HeadParams) -> CrossValidated:
        """See `HeadKind`. If `head.c` is a number, it is the c of logistic regression, which is then taken."""
        if head.c != "auto":
            return super().cross_validate(designs, ridge_c, head)
        return choose_kind(designs, ridge_c, head.max_iter, _tolerance(head, designs))


class SgdHead:
    """The training recipe of the tutorials: stochastic gradient descent without an L2 penalty, so without c."""

    def ridge_c_grid(self, head: HeadParams) -> list[float]:
        """See `HeadKind`."""
        return sorted(head.c_grid)

    def cross_validate(
        self,
        designs: DesignMatrices,
        ridge_c: float,  # noqa: ARG002 - part of the protocol
        head: HeadParams,
    ) -> CrossValidated:
        """See `HeadKind`."""
        models = designs.map_folds(lambda fold: fit_sgd(designs.rows, designs.targets, fold, head.sgd, head.seed))
        return score_folds("sgd", designs, None, models)

    def fit(
        self,
        designs: DesignMatrices,
        validated: CrossValidated,  # noqa: ARG002 - part of the protocol
        head: HeadParams,
    ) -> tuple[LinearModel, bool]:
        """See `HeadKind`."""
        return fit_sgd(designs.rows, designs.targets, None, head.sgd, head.seed), True


KINDS: dict[str, type[HeadKind]] = {"auto": AutoHead, "logistic": LogisticHead, "ridge": RidgeHead, "sgd": SgdHead}


def _tolerance(head: HeadParams, designs: DesignMatrices) -> float:
    return default_tolerance(designs) if head.tol == "auto" else head.tol
