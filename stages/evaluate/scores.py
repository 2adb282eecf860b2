"""The reported numbers of one track."""

import numpy as np
from scipy.special import log_softmax

from stages.core.tables import Predictions


def score(predictions: Predictions) -> dict[str, float | int]:
    """Return the numbers that `dvc metrics show` shows.

    Args:
        predictions: Of the reported split.

    Returns:
        accuracy: Fraction of images whose true class has the largest logit. Higher is better, as for the next two.
        balanced_accuracy: Mean over the classes that occur of the fraction found.
        macro_f1: Mean F1 over the classes that occur or are predicted.
        log_loss: Mean negative log probability of the true class, in nats. Lower is better.
        num_images: Rows.
    """
    column = {name: number for number, name in enumerate(predictions.classes)}
    targets = np.array([column[label] for label in predictions.labels])
    predicted = predictions.logits.argmax(axis=1)
    # Counted here, because importing scikit-learn's metrics takes as long as all else after an edit of `head.*`.
    confusion = np.zeros((len(column), len(column)))
    np.add.at(confusion, (targets, predicted), 1)
    hits, actual, guessed = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    seen = actual + guessed > 0
    return {
        "accuracy": float(hits.sum() / len(targets)),
        "balanced_accuracy": float((hits[actual > 0] / actual[actual > 0]).mean()),
        "macro_f1": float((2 * hits[seen] / (actual + guessed)[seen]).mean()),
        "log_loss": float(-log_softmax(predictions.logits, axis=1)[np.arange(len(targets)), targets].mean()),
        "num_images": len(targets),
    }
