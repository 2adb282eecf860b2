"""The probe: the linear head that fine-tuning starts from, fitted on cached embeddings.

A random head damages the pretrained layers before it has learnt anything (LP-FT: Kumar et al. 2022, section 3).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from headstart.artifacts.features import Features
from headstart.base.errors import FeatureFileError
from headstart.linear.design import Resources
from headstart.linear.folds import make_folds
from headstart.linear.layer_choice import LayerChooser
from headstart.linear.layer_rows import MEMORY_DIVISOR
from headstart.linear.model import Float64Array, LinearModel
from headstart.linear.selection import choose_kind, default_tolerance, refit
from headstart.linear.targets import make_targets
from headstart.tables.names import LAST_LAYER
from stages.finetune.params import Params
from stages.finetune.subsets import LabelledImage

_MAX_ITER = 1000


@dataclass(frozen=True)
class Probe:
    """A linear head on the embeddings of some layers.

    Attributes:
        layers: Names of the layers, by depth. The last one is `last`.
        model: Classifier on their embeddings, whose logits are calibrated: weight float64 (C, dim), bias float64 (C,).
        mean: float64 (dim,), mean of each column over the training images.
        scale: float64 (dim,), scale of each column, as in `column_scale`.
    """

    layers: Sequence[str]
    model: LinearModel
    mean: Float64Array
    scale: Float64Array


def fit_probe(features: Features, training: Sequence[LabelledImage], classes: Sequence[str], params: Params) -> Probe:
    """Fit a linear classifier to the training images. Cross-validation chooses layers, kind and c, as in the head.

    The layers always include the last one, so that every layer of the network can learn.

    Args:
        features: Open features file.
        training: Training images by digest, without the inner validation.
        classes: (C,) names in the order of the logits.
        params: Params of the stage.

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
    with threadpool_limits(limits=1, user_api="blas"):
        chooser = LayerChooser(
            features,
            [image.row.digest for image in training],
            make_targets(labels, classes, finetune.class_weights, "finetune.class_weights"),
            make_folds(labels, groups, num_folds, finetune.seed, "finetune.folds"),
            c_grid=finetune.probe_c_grid,
            max_bytes=params.runtime.memory // MEMORY_DIVISOR,
            resources_for=lambda _, __: Resources(params.runtime.num_workers, "cpu"),
        )
        choice = chooser.choose_with(LAST_LAYER)
        designs, ridge_c = choice.designs, choice.score.c
        assert ridge_c is not None, "ridge regression has a c"
        tol = default_tolerance(designs)
        validated = choose_kind(designs, ridge_c, _MAX_ITER, tol)
        (weight, bias), _ = refit(designs, validated, _MAX_ITER, tol)
        temperature = validated.score.temperature
        mean, scale = designs.standardisation(designs.all_rows())
    return Probe(choice.layers, LinearModel(weight / temperature, bias / temperature), mean, scale)


def _most_groups_of_a_class(labels: Sequence[str], groups: Sequence[str]) -> int:
    return max(Counter(label for label, _ in set(zip(labels, groups, strict=True))).values())
