"""The advice: which of the four cases of transfer learning this is, by measurement, and what to try next.

The rule of thumb (CS231n, "Transfer learning"): a small data set takes a linear head, a large one fine-tuning. A data
set like ImageNet takes the last layer, another one an earlier layer. Here size and similarity are measured. If the rule
and the measurement disagree, the advice says both.
"""

from collections.abc import Sequence

from headstart.base.errors import TableError
from headstart.tables.compare import Advice, Suggestion, Verdict
from headstart.tables.head import LayerScore
from headstart.tables.names import LAST_LAYER
from stages.compare.evidence import Evidence

# Doubling the images is worth it if it adds half a point of accuracy.
_WORTH = 0.005
# The rule of thumb has no numbers; ImageNet has about 1,300 images of a class.
_FEW_PER_CLASS, _MANY_PER_CLASS = 250, 1000
# A lower learning rate hardly changes the network in a usual number of epochs.
_GENTLE_RATE = 1e-5
CANNOT_TELL = "cannot tell"


def advise(evidence: Evidence) -> Advice:
    """Return the advice for some measurements.

    Raises:
        TableError: No layer is marked as chosen.
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
        f"  size: {advice.size.verdict}; like ImageNet: {advice.similarity.verdict}; layer: {advice.layer.verdict}"
    )


def judge_size(evidence: Evidence) -> Verdict:
    """Return whether the data set is small or large.

    Large: twice as many images would add less than half a point, or there are 1,000 images of a class. Small: they
    would add more, or there are fewer than 250 images of a class.
    """
    low, high = evidence.doubling_gain_low, evidence.doubling_gain_high
    per_class = evidence.num_training / evidence.num_classes
    if high < _WORTH:
        verdict = "large"
    elif low > _WORTH or per_class < _FEW_PER_CLASS:
        verdict = "small"
    else:
        verdict = "large" if per_class >= _MANY_PER_CLASS else CANNOT_TELL
    return Verdict(
        verdict,
        f"{evidence.num_training} training images of {evidence.num_classes} classes, {per_class:.0f} of a class on "
        f"average; doubling the data would add about {_points(evidence.doubling_gain)} to the head's accuracy "
        f"({_points(low)} to {_points(high)}).",
    )


def judge_similarity(layers: Sequence[LayerScore]) -> Verdict:
    """Return `similar` if no layer is more accurate than the last, `different` if one is, beyond both intervals."""
    last = next((one for one in layers if one.layer == LAST_LAYER), None)
    if last is None or len(layers) < 2:
        return Verdict(CANNOT_TELL, "Both the last layer and an earlier one are needed (backbone.layers, head.layers).")
    best = max(layers, key=lambda one: (one.accuracy, one.depth))
    scores = f"the last layer gives {_interval(last)}"
    if best is last:
        earlier = max((one for one in layers if one is not last), key=lambda one: one.accuracy)
        return Verdict("similar", f"No layer is better than the last: {scores}, {earlier.layer} {_interval(earlier)}.")
    scores += f", {best.layer} {_interval(best)}"
    if best.accuracy_low > last.accuracy_high:
        return Verdict("different", f"An earlier layer is clearly better than the last: {scores}.")
    return Verdict(CANNOT_TELL, f"An earlier layer is better than the last, but maybe by chance: {scores}.")


def _layer(layers: Sequence[LayerScore]) -> Verdict:
    chosen = next((one for one in layers if one.chosen), None)
    if chosen is None:
        raise TableError("plots/head_training/layers.csv: no row is the chosen one. Run: dvc repro head")
    return Verdict(
        chosen.layer,
        f"Its cross-validated log loss on the training images is the lowest of {len(layers)} layers: "
        f"{chosen.log_loss:.3f}, at an accuracy of {_interval(chosen)}.",
    )


def _ship(evidence: Evidence) -> Verdict:
    comparison = evidence.comparison
    counts = (
        f"On {comparison.num_images} test images the head is right for {evidence.head_accuracy:.3f}, fine-tuning "
        f"for {evidence.finetune_accuracy:.3f}: a difference of {_points(comparison.difference)} "
        f"({_points(comparison.low)} to {_points(comparison.high)}). "
        f"{comparison.num_only_finetune} images only fine-tuning gets right, "
        f"{comparison.num_only_head} only the head (exact McNemar p {comparison.mcnemar_p:.2g})."
    )
    if comparison.ship == "finetune":
        why = "Fine-tuning is significantly better."
    elif comparison.is_significant:
        why = "The head is significantly better, and simpler and faster too."
    else:
        exact = "By the exact test that may still" if comparison.low > 0 or comparison.high < 0 else "That may"
        why = f"{exact} be chance, and the head is simpler and faster."
    return Verdict(comparison.ship, f"{counts} {why}")


def _rule(size: str, similarity: str, evidence: Evidence) -> str:
    if CANNOT_TELL in (size, similarity):
        return "It is not clear which of the four cases this is, so the rule of thumb does not apply."
    track = "head" if size == "small" else "finetune"
    layer = "the last layer" if similarity == "similar" else "an earlier layer"
    words = {"head": f"a linear head on {layer}", "finetune": "fine-tuning the network"}
    likeness = "similar to" if similarity == "similar" else "different from"
    text = f"For a {size} data set {likeness} ImageNet the rule of thumb is {words[track]}."
    ship = evidence.comparison.ship
    if ship == track:
        return f"{text} The measurement agrees."
    measured = "fine-tuning is not significantly better"
    if evidence.comparison.is_significant:
        measured = f"{'fine-tuning' if ship == 'finetune' else 'the head'} is significantly better"
    return f"{text} The measurement disagrees: {measured}."


def _suggestions(evidence: Evidence, similarity: str) -> list[Suggestion]:
    found = []
    if evidence.num_suspects:
        found.append(
            Suggestion(
                "",
                f"Look at the suspected label errors ({evidence.num_suspects}): wrong labels harm both tracks.",
            )
        )
    if evidence.doubling_gain_low > _WORTH:
        found.append(
            Suggestion("", f"Collect more images: twice as many would add about {_points(evidence.doubling_gain)}.")
        )
    if evidence.num_epochs and evidence.best_epoch == 0 and evidence.backbone_rate > _GENTLE_RATE:
        found.append(
            Suggestion(
                f"dvc exp run -S finetune.optimizer.backbone_rate={evidence.backbone_rate / 3:.2g}",
                "No epoch of fine-tuning was clearly better than its start; a gentler rate disturbs the network less.",
            )
        )
    elif evidence.num_epochs and evidence.best_epoch == evidence.num_epochs:
        found.append(
            Suggestion(
                f"dvc exp run -S finetune.epochs={2 * evidence.num_epochs}",
                f"Fine-tuning was best at its last epoch, {evidence.num_epochs}: it may not be done.",
            )
        )
    if similarity == "similar" and evidence.num_views == 1:
        found.append(
            Suggestion(
                "dvc exp run -S extract.views=2",
                "The head on each image and its mirror image (where a mirror image is of the same class).",
            )
        )
    elif similarity == CANNOT_TELL and len(evidence.layers) < 2:
        found.append(
            Suggestion(
                "dvc exp run -S backbone.layers=auto -S head.layers=auto",
                "Several layers show whether an earlier one is better.",
            )
        )
    elif similarity == "different" and evidence.layer_decay < 1:
        found.append(
            Suggestion(
                "dvc exp run -S finetune.optimizer.layer_decay=1.0",
                "On images unlike photos the first layers may have to learn as fast as the last ones.",
            )
        )
    return found


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f} points"


def _interval(one: LayerScore) -> str:
    return f"{one.accuracy:.3f} ({one.accuracy_low:.3f} to {one.accuracy_high:.3f})"
