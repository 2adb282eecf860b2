"""The estimator: scikit-learn's tools accept it, and it gives the model's answers."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.metrics import get_scorer, roc_auc_score
from sklearn.model_selection import cross_val_score

from headstart.backbone.params import BackboneParams
from headstart.base.errors import DataError
from headstart.predict.estimator import BundleClassifier
from headstart.predict.model import Model, load
from tests.support.bundles import CLASSES, make_bundle, written


@pytest.mark.slow
def test_scikit_learn_accepts_the_estimator(model: Model, photos: Path) -> None:
    """Its scorers work; paths and embeddings give the same answers; embeddings of another shape are errors."""
    paths = [str(path) for path in sorted(photos.rglob("*.*"))]
    labels = np.array(CLASSES)[np.arange(len(paths)) % 3]
    classifier = BundleClassifier(model).fit(paths, labels)
    order = [CLASSES.index(name) for name in sorted(CLASSES)]
    expected = softmax(model.logits(paths), axis=1)[:, order]

    assert classifier.classes_.tolist() == sorted(CLASSES) != list(CLASSES)
    assert np.allclose(classifier.predict_proba(paths), expected)
    assert np.allclose(classifier.predict_proba(np.array(paths)[:, None]), expected)
    assert classifier.predict_proba([]).shape == (0, 3)
    assert classifier.predict(np.ones((2, 96), dtype=np.int64)).shape == (2,)
    assert np.allclose(classifier.predict_proba(model.embed(paths)), expected)
    assert classifier.decision_function(model.embed(paths)[:, 0]).shape == (12, 3)
    assert classifier.predict(paths).tolist() == [one.predicted for one in model.predict(paths)]
    accuracy = np.mean(classifier.predict(paths) == labels)
    assert get_scorer("accuracy")(classifier, paths, labels) == pytest.approx(accuracy)
    column = [sorted(CLASSES).index(label) for label in labels]
    loss = -np.log(expected[np.arange(len(paths)), column]).mean()
    assert get_scorer("neg_log_loss")(classifier, paths, labels) == pytest.approx(-loss)
    assert clone(classifier) is classifier
    assert np.array_equal(pickle.loads(pickle.dumps(classifier)).predict_proba(paths), classifier.predict_proba(paths))
    assert cross_val_score(classifier, paths, labels, cv=2, n_jobs=2).mean() == pytest.approx(accuracy)
    with pytest.raises(DataError, match=r"embeddings have shape \(3, 5\); expected \(N, 96\)"):
        classifier.predict(np.zeros((3, 5)))
    with pytest.raises(DataError, match="embeddings have numbers that are not finite"):
        classifier.predict(np.full((3, 96), np.nan))


def test_two_classes_have_one_decision_value(tiny_backbone: BackboneParams, tmp_path: Path, photos: Path) -> None:
    """As scikit-learn's scorers expect, the value is the logit of the second class minus that of the first."""
    bundle = make_bundle(tiny_backbone, track="finetune", classes=["no", "maybe"])
    classifier = BundleClassifier(load(written(tmp_path / "b", bundle)))
    paths = sorted(map(str, photos.rglob("*.*")))
    labels = ["maybe", "no"] * 6
    score = classifier.predict_proba(paths)[:, 1]

    assert classifier.classes_.tolist() == ["maybe", "no"]
    assert classifier.decision_function(paths).shape == (12,)
    assert ((classifier.decision_function(paths) > 0) == (classifier.predict(paths) == "no")).all()
    expected = roc_auc_score(np.array(labels) == "no", score)
    assert get_scorer("roc_auc")(classifier, paths, labels) == pytest.approx(expected)
