"""A model as a scikit-learn classifier, for scikit-learn's metrics, displays and ensembles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin

from headstart.base.errors import DataError
from headstart.predict.model import Model


class BundleClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier that has been trained already: `fit` does nothing, and `clone` returns the same object.

    `X` holds paths of images, (N,) or (N, 1), or embeddings from the bundle's network and layer: (N, dim), or
    (N, views, dim) as in `features.h5`.

    Args:
        model: A model from `headstart.predict.model.load`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    @property
    def classes_(self) -> NDArray[np.str_]:
        """Names of the classes (C,), sorted, in the order of the columns.

        scikit-learn's metrics expect sorted names. The bundle's own order is `model.classes`.
        """
        return np.sort(np.array(self.model.classes))

    def fit(self, X: object, y: object = None) -> "BundleClassifier":  # noqa: ARG002
        """Do nothing: the pipeline has trained the bundle."""
        return self

    def decision_function(self, X: Sequence[str] | NDArray[Any]) -> NDArray[np.float64]:
        """Return calibrated logits, float64 (N, C).

        For two classes, as scikit-learn expects, return the logit of the second minus that of the first, (N,).

        Raises:
            DataError: An image cannot be read or decoded, or the embeddings have another shape or numbers that are not
                finite.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Sequence[str] | NDArray[Any]) -> NDArray[np.float64]:
        """Return calibrated probabilities, float64 (N, C), rows of sum 1; raises as `decision_function`."""
        return softmax(self._logits(X), axis=1)

    def predict(self, X: Sequence[str] | NDArray[Any]) -> NDArray[np.str_]:
        """Return the names of the most probable classes (N,); raises as `decision_function`."""
        return self.classes_[self._logits(X).argmax(axis=1)]

    def _logits(self, X: Sequence[str] | NDArray[Any]) -> NDArray[np.float64]:
        rows = np.asarray(X)
        if rows.dtype.kind in "biuf" and rows.size:
            logits = self.model.bundle.logits(self._check_embeddings(rows))
        else:
            logits = self.model.logits([str(path) for path in rows.ravel().tolist()])
        return logits[:, np.argsort(np.array(self.model.classes))]

    def _check_embeddings(self, rows: NDArray[Any]) -> NDArray[np.float32]:
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
