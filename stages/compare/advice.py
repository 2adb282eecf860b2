"""The advice: which track to use, which of the four cases of transfer learning this is, and what to try next.

The rule of thumb (CS231n, "Transfer learning") has four cases. For a small data set it recommends a linear head, for a
large one fine-tuning. For images like ImageNet it recommends the last layer, for other images an earlier layer. Here,
size and similarity are measured. If the rule and the measurements disagree, the advice says so.
"""

from collections.abc import Sequence

from headstart.base.errors import TableError
from headstart.tables.compare import Advice, Suggestion, Verdict
from headstart.tables.head import LayerScore
from headstart.tables.names import LAST_LAYER
from stages.compare.evidence import Evidence

# Twice as many images are worth the work if they add at least half a point of accuracy.
_WORTHWHILE_GAIN = 0.005
# The rule of thumb gives no numbers; ImageNet has about 1,300 images of each class.
_FEW_PER_CLASS, _MANY_PER_CLASS = 250, 1000
# With a lower learning rate the network hardly changes in a usual number of epochs.
_LOWEST_RATE = 1e-5
CANNOT_TELL = "cannot tell"


def advise(evidence: Evidence) -> Advice:
    """Return the advice that follows from the evidence.

    Raises:
        TableError: No layer is marked as the chosen one.
    """
    size, similarity = judge_size(evidence), judge_similarity(evidence.layers)
    return Advice(
        size=size,
        similarity=similarity,
        layer=_layer(evidence.layers),
        ship=_ship(evidence),
        rule=_rule(size.verdict, similarity.verdict, evidence),
        suggestions=_suggestions(evidence, similarity.verdict),
    )


def summary(advice: Advice) -> str:
    """Return the verdicts in two lines."""
    return (
        f"use {advice.ship.verdict}. {advice.ship.why}\n"
        f"  size: {advice.size.verdict}; compared with ImageNet: {advice.similarity.verdict}; "
        f"layer: {advice.layer.verdict}"
    )


def judge_size(evidence: Evidence) -> Verdict:
    """Return whether the data set is `small` or `large`, or `cannot tell`.

    It is large if twice as many images would clearly add less than half a point of accuracy. It is small if they would
    clearly add more. Otherwise the images of each class decide: fewer than 250 are small, at least 1,000 are large.
    """
    low, high = evidence.doubling_gain_low, evidence.doubling_gain_high
    per_class = evidence.num_training / evidence.num_classes
    if high < _WORTHWHILE_GAIN:
        verdict = "large"
    elif low > _WORTHWHILE_GAIN or per_class < _FEW_PER_CLASS:
        verdict = "small"
    else:
        verdict = "large" if per_class >= _MANY_PER_CLASS else CANNOT_TELL
    return Verdict(
        verdict,
        f"There are {evidence.num_training} training images of {evidence.num_classes} classes, on average "
        f"{per_class:.0f} of each class. Twice as many would change the accuracy of the head by about "
        f"{_points(evidence.doubling_gain)} ({_points(low)} to {_points(high)}).",
    )


def judge_similarity(layers: Sequence[LayerScore]) -> Verdict:
    """Return whether the images are `similar` to ImageNet or `different`, or `cannot tell`.

    They are similar if no layer is more accurate than the last one. They are different if an earlier layer is more
    accurate and its interval lies above that of the last layer.
    """
    layers = [one for one in layers if one.num_layers == 1]
    last = next((one for one in layers if one.layers == LAST_LAYER), None)
    if last is None or len(layers) < 2:
        return Verdict(CANNOT_TELL, "This needs the last layer and an earlier one (backbone.layers, head.layers).")
    best = max(layers, key=lambda one: (one.accuracy, one.place))
    scores = f"the accuracy of the last layer is {_interval(last)}"
    if best is last:
        earlier = max((one for one in layers if one is not last), key=lambda one: one.accuracy)
        return Verdict(
            "similar", f"No layer is better than the last: {scores}, that of {earlier.layers} {_interval(earlier)}."
        )
    scores += f", that of {best.layers} {_interval(best)}"
    if best.accuracy_low > last.accuracy_high:
        return Verdict("different", f"An earlier layer is clearly better than the last: {scores}.")
    return Verdict(CANNOT_TELL, f"An earlier layer is better than the last, but that may be chance: {scores}.")


def _layer(layers: Sequence[LayerScore]) -> Verdict:
    chosen = next((one for one in layers if one.chosen), None)
    if chosen is None:
        raise TableError(
            "plots/head_training/layers.csv: found no row with chosen 1; expected one. Run: dvc repro head"
        )
    return Verdict(
        chosen.layers,
        f"Of {len(layers)} sets of layers, no set has a clearly lower cross-validated log loss on the training images, "
        f"and none that is as good has fewer columns: {chosen.log_loss:.3f}. The accuracy is {_interval(chosen)}.",
    )


def _ship(evidence: Evidence) -> Verdict:
    comparison = evidence.comparison
    counts = (
        f"On {comparison.num_images} test images the accuracy of the head is {evidence.head_accuracy:.3f}, that of "
        f"fine-tuning {evidence.finetune_accuracy:.3f}. The difference is {_points(comparison.difference)} "
        f"({_points(comparison.low)} to {_points(comparison.high)}). Only fine-tuning is right on "
        f"{comparison.num_only_finetune} images, only the head on {comparison.num_only_head} (exact McNemar test, "
        f"p = {comparison.mcnemar_p:.2g})."
    )
    if comparison.ship == "finetune":
        why = "Fine-tuning is significantly better."
    elif comparison.is_significant:
        why = "The head is significantly better. It is also simpler and faster."
    else:
        # The interval and the exact test are two methods: they can disagree.
        excludes_0 = comparison.low > 0 or comparison.high < 0
        chance = "The interval excludes 0, but by the exact test the" if excludes_0 else "The"
        why = f"{chance} difference may be chance. The head is simpler and faster."
    return Verdict(comparison.ship, f"{counts} {why}")


def _rule(size: str, similarity: str, evidence: Evidence) -> str:
    if CANNOT_TELL in (size, similarity):
        return "It is unclear which of the four cases this is, so the rule of thumb does not apply."
    track = "head" if size == "small" else "finetune"
    layer = "the last layer" if similarity == "similar" else "an earlier layer"
    words = {"head": f"a linear head on {layer}", "finetune": "fine-tuning the network"}
    likeness = "similar to" if similarity == "similar" else "different from"
    text = f"For a {size} data set {likeness} ImageNet the rule of thumb recommends {words[track]}."
    ship = evidence.comparison.ship
    if ship == track:
        return f"{text} The comparison agrees."
    measured = "fine-tuning is not significantly better"
    if evidence.comparison.is_significant:
        measured = f"{'fine-tuning' if ship == 'finetune' else 'the head'} is significantly better"
    return f"{text} The comparison disagrees: {measured}."


def _suggestions(evidence: Evidence, similarity: str) -> list[Suggestion]:
    found = []
    if evidence.num_suspects:
        found.append(
            Suggestion(
                "",
                f"Look at the {evidence.num_suspects} suspected label errors. Wrong labels harm both tracks.",
            )
        )
    if evidence.doubling_gain_low > _WORTHWHILE_GAIN:
        found.append(
            Suggestion(
                "", f"Collect more images. Twice as many would add about {_points(evidence.doubling_gain)} of accuracy."
            )
        )
    if evidence.num_epochs and evidence.kept_epoch == 0 and evidence.backbone_rate > _LOWEST_RATE:
        found.append(
            Suggestion(
                f"dvc exp run -S finetune.optimizer.backbone_rate={evidence.backbone_rate / 3:.2g}",
                "Fine-tuning was not better than its start. A lower rate changes the network less.",
            )
        )
    elif evidence.kept_epoch and evidence.kept_share == 1:
        found.append(
            Suggestion(
                f"dvc exp run -S finetune.epochs={2 * evidence.num_epochs}",
                "Fine-tuning was better the further it went from its start. More epochs may help.",
            )
        )
    if similarity == "similar" and evidence.num_views == 1:
        found.append(
            Suggestion(
                "dvc exp run -S extract.views=2",
                "The head then sees each image and its mirror image. That helps if both are of the same class.",
            )
        )
    elif similarity == CANNOT_TELL and len(evidence.layers) < 2:
        found.append(
            Suggestion(
                "dvc exp run -S backbone.layers=auto -S head.layers=auto",
                "With several layers you see whether an earlier one is better.",
            )
        )
    elif similarity == "different" and evidence.layer_decay < 1:
        found.append(
            Suggestion(
                "dvc exp run -S finetune.optimizer.layer_decay=1.0",
                "On images unlike ImageNet, the first layers may need the same learning rate as the last ones.",
            )
        )
    return found


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f} points"


def _interval(one: LayerScore) -> str:
    return f"{one.accuracy:.3f} ({one.accuracy_low:.3f} to {one.accuracy_high:.3f})"
