"""The reported numbers of one track."""

from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, f1_score, recall_score

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
    labels, predicted = list(predictions.labels), predictions.predicted
    occurring = sorted(set(labels))
    column = {name: number for number, name in enumerate(predictions.classes)}
    targets = [column[label] for label in labels]
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "balanced_accuracy": float(recall_score(labels, predicted, labels=occurring, average="macro")),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "log_loss": float(-log_softmax(predictions.logits, axis=1)[range(len(labels)), targets].mean()),
        "num_images": len(labels),
    }
