"""The estimator: a model with the face of scikit-learn, for its metrics, displays and ensembles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin

from headstart.base.errors import DataError
from headstart.predict.model import Model


class BundleClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier that is trained already: a clone of it is itself, and `fit` does nothing.

    `X` is paths of images, (N,) or (N, 1), or embeddings by the bundle's own network and layer: (N, dim), or
    (N, views, dim) as `features.h5` has them.

    Attributes:
        classes_: (C,) names, sorted, in the order of the columns: scikit-learn's metrics expect that of labels that are
            text. The bundle's own order is `model.classes`.

    Args:
        model: From `headstart.predict.model.load`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    @property
    def classes_(self) -> NDArray[np.str_]:
        """(C,) names of the classes, sorted."""
        return np.sort(np.array(self.model.classes))

    def fit(self, X: object, y: object = None) -> "BundleClassifier":  # noqa: ARG002
        """Do nothing: a bundle is trained by the pipeline."""
        return self

    def decision_function(self, X: Sequence[str] | NDArray[Any]) -> NDArray[np.float64]:
        """Return calibrated logits (N, C); of two classes, as scikit-learn has it, how far the second is ahead, (N,).

        Raises:
            DataError: An image gives no picture, or embeddings of another shape or with numbers that are not finite.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Sequence[str] | NDArray[Any]) -> NDArray[np.float64]:
        """Return calibrated probabilities (N, C), rows of sum 1; raises as `decision_function`."""
        return softmax(self._logits(X), axis=1)

    def predict(self, X: Sequence[str] | NDArray[Any]) -> NDArray[np.str_]:
        """Return names of classes (N,); raises as `decision_function`."""
        return self.classes_[self._logits(X).argmax(axis=1)]

    def _logits(self, X: Sequence[str] | NDArray[Any]) -> NDArray[np.float64]:
        rows = np.asarray(X)
        if rows.dtype.kind in "biuf" and rows.size:
            logits = self.model.bundle.logits(self._checked(rows))
        else:
            logits = self.model.logits([str(path) for path in rows.ravel().tolist()])
        return logits[:, np.argsort(np.array(self.model.classes))]

    def _checked(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        dim = self.model.bundle.weight.shape[1]
        if rows.ndim not in (2, 3) or rows.shape[-1] != dim:
            raise DataError(f"embeddings have shape {rows.shape}; expected (N, {dim}) or (N, views, {dim})")
        if not np.isfinite(rows).all():
            raise DataError("embeddings have numbers that are not finite")
        return rows[:, None] if rows.ndim == 2 else rows

    def __sklearn_clone__(self) -> "BundleClassifier":
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True
