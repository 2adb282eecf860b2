"""The estimator: a model with the face of scikit-learn, for its metrics, displays and ensembles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin

from stages.core.errors import DataError
from stages.predict.model import Model


class BundleClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier that is trained already.

    `X` is paths of images, (N,), or embeddings by the bundle's own network and tap: (N, dim), or (N, views, dim) as
    `features.h5` has them.

    Attributes:
        classes_: (C,) names, in the order of the columns.

    Args:
        model: From `stages.predict.model.load`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    @property
    def classes_(self) -> NDArray[np.str_]:
        """(C,) names of the classes."""
        return np.array(self.model.classes)

    def fit(self, X: object, y: object = None) -> "BundleClassifier":  # noqa: ARG002
        """Do nothing: a bundle is trained by the pipeline."""
        return self

    def decision_function(self, X: Sequence[str] | NDArray[Any]) -> NDArray[np.float64]:
        """Return calibrated logits (N, C).

        Raises:
            DataError: An image gives no picture, or embeddings of another shape.
        """
        rows = np.asarray(X)
        if rows.dtype.kind not in "fc":
            return self.model.logits([str(path) for path in rows.tolist()])
        rows = rows[:, None] if rows.ndim == 2 else rows
        dim = self.model.bundle.weight.shape[1]
        if rows.ndim != 3 or rows.shape[2] != dim:
            raise DataError(f"embeddings have shape {np.asarray(X).shape}; expected (N, {dim}) or (N, views, {dim})")
        return self.model.bundle.logits(rows)

    def predict_proba(self, X: Sequence[str] | NDArray[Any]) -> NDArray[np.float64]:
        """Return calibrated probabilities (N, C), rows of sum 1; raises as `decision_function`."""
        return softmax(self.decision_function(X), axis=1)

    def predict(self, X: Sequence[str] | NDArray[Any]) -> NDArray[np.str_]:
        """Return names of classes (N,); raises as `decision_function`."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def __sklearn_is_fitted__(self) -> bool:
        return True
