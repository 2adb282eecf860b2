"""The probe: the linear head that fine-tuning starts from, fitted on cached embeddings.

A random head damages the pretrained layers before it has learnt anything (LP-FT: Kumar et al. 2022, section 3).
"""

from collections import Counter
from collections.abc import Sequence

from threadpoolctl import threadpool_limits

from headstart.artifacts.features import Features
from headstart.base.errors import FeatureFileError
from headstart.linear.design import DesignMatrices, Resources
from headstart.linear.folds import make_folds
from headstart.linear.layer_rows import MEMORY_DIVISOR, LayerRows
from headstart.linear.model import LinearModel
from headstart.linear.selection import LOGISTIC_C_FACTOR, cross_validate_ridge, default_tolerance, refit_logistic
from headstart.linear.targets import make_targets
from headstart.tables.names import LAST_LAYER
from stages.finetune.params import Params
from stages.finetune.subsets import LabelledImage

_MAX_ITER = 1000


def fit_probe(
    features: Features, training: Sequence[LabelledImage], classes: Sequence[str], params: Params
) -> LinearModel:
    """Fit logistic regression on the last layer of the training images. Cross-validation chooses c, as in the head.

    Args:
        features: Open features file.
        training: Training images by digest, without the inner validation.
        classes: (C,) names in the order of the logits.
        params: Params of the stage.

    Returns:
        The model on embeddings: weight float64 (C, dim), bias float64 (C,).

    Raises:
        DataError: There are too few images for the folds.
        FeatureFileError: The features lack the last layer or an image.
        ParamsError: A class weight names no class.
    """
    if LAST_LAYER not in features.spec["layers"]:
        raise FeatureFileError(
            f"features/features.h5: found layers {features.spec['layers']}; expected {LAST_LAYER!r} among them "
            "because finetune.init is probe. Add it to backbone.layers, or set finetune.init to random"
        )
    finetune, labels = params.finetune, [image.label for image in training]
    groups = [image.group for image in training]
    # The inner validation has already taken a part of the images, so small classes may need fewer folds.
    num_folds = max(2, min(finetune.folds, _most_groups_of_a_class(labels, groups)))
    folds = make_folds(labels, groups, num_folds, finetune.seed, "finetune.folds")
    with threadpool_limits(limits=1, user_api="blas"):
        digests = [image.row.digest for image in training]
        rows = LayerRows(features, LAST_LAYER, digests, folds, params.runtime.memory // MEMORY_DIVISOR)
        targets = make_targets(labels, classes, finetune.class_weights, "finetune.class_weights")
        designs = DesignMatrices(rows, targets, num_folds, Resources(params.runtime.num_workers, "cpu"))
        score, fold_models = cross_validate_ridge(designs, sorted(finetune.probe_c_grid))
        assert score.c is not None, "ridge regression has a c"
        c, tol = LOGISTIC_C_FACTOR * score.c, default_tolerance(designs)
        model, _ = refit_logistic(designs, c, fold_models, _MAX_ITER, tol)
    return model


def _most_groups_of_a_class(labels: Sequence[str], groups: Sequence[str]) -> int:
    return max(Counter(label for label, _ in set(zip(labels, groups, strict=True))).values())
