"""The trainer: it runs epochs, scores each one on the inner validation, saves it, and keeps the best one."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.base.errors import ParamsError, TrainingError
from headstart.base.progress import Progress
from headstart.linear.calibration import fit_temperature, log_losses
from stages.finetune.checkpoint import Checkpoint
from stages.finetune.classifier import Classifier
from stages.finetune.history import Epoch, Kept
from stages.finetune.inputs import Inputs
from stages.finetune.loader import even_batches
from stages.finetune.losses import Losses
from stages.finetune.memory import ForwardPasses
from stages.finetune.optimizer import rate_factor
from stages.finetune.params import FinetuneParams
from stages.finetune.ranks import Ranks
from stages.finetune.stepper import Stepper
from stages.finetune.subsets import LabelledImage
from stages.finetune.trainable_layers import TrainableLayers

State = dict[str, torch.Tensor]
# Weights of the last epoch in its mean with the start that are tried. On ImageNet, WiSE-FT's best ones lie between 0.4
# and 0.8 (Wortsman et al. 2022, figure 3).
SHARES = (0.25, 0.5, 0.75)


@dataclass
class Timings:
    """Work and time of this process. They differ from run to run. Epochs of an earlier process do not count.

    Attributes:
        num_images: Number of images trained on; an image counts once for each epoch.
        training_seconds: Seconds of training.
        validation_seconds: Seconds of scoring on the inner validation.
        prediction_seconds: Seconds of predicting the test images.
    """

    num_images: int = 0
    training_seconds: float = 0.0
    validation_seconds: float = 0.0
    prediction_seconds: float = 0.0


class Trainer:
    """Trains a classifier.

    Attributes:
        history: The epochs so far. The start is the first one.
        timings: Work and time of this process.

    Args:
        classifier: The classifier in the state to start from, on its device.
        trainable_layers: Layers of the classifier that train.
        stepper: Takes the steps of the optimizer.
        inputs: Inputs for training and validation.
        passes: Forward passes for validation.
        images: Training images.
        validation_classes: Class numbers of the inner validation, int64 (M,).
        params: Epochs, batch and schedule.
        ranks: Processes that share the work.
        checkpoint: Where the state is saved. If it has a state, training continues from it.
    """

    def __init__(
        self,
        classifier: Classifier,
        trainable_layers: TrainableLayers,
        stepper: Stepper,
        inputs: Inputs,
        *,
        passes: ForwardPasses,
        images: Sequence[LabelledImage],
        validation_classes: NDArray[np.int64],
        params: FinetuneParams,
        ranks: Ranks,
        checkpoint: Checkpoint,
    ) -> None:
        self.history: list[Epoch] = []
        self.timings = Timings()
        self._classifier, self._trainable_layers, self._stepper = classifier, trainable_layers, stepper
        self._inputs, self._passes = inputs, passes
        self._images, self._validation_classes = images, validation_classes
        self._params, self._ranks, self._checkpoint = params, ranks, checkpoint
        self._start = _copy_state(classifier)

    @property
    def is_done(self) -> bool:
        """Whether the last epoch is over."""
        return len(self.history) > self._params.epochs

    def run(self, watch: Callable[[Sequence[Epoch]], None]) -> Kept:
        """Train until it is done. Then give the classifier the weights that are kept.

        Args:
            watch: Function that the first rank calls with the history after every epoch.

        Raises:
            DataError: The content of a file differs from the index.
            ParamsError: A batch has fewer images than there are processes.
            TrainingError: A number is not finite, a device has too little memory, or the checkpoint cannot be written.
        """
        saved = self._resume()
        if not self.is_done or saved.get("kept") is None:
            self._prepare_inputs()
        num_left = len(self._images) * (self._params.epochs - max(0, len(self.history) - 1))
        with torch.random.fork_rng(devices=[]), Progress("finetune", num_left, "image") as progress:
            while not self.is_done:
                number = len(self.history)
                loss, factor = self._train(number, len(self._images), progress) if number else (None, 0.0)
                self._end_epoch(number, loss, factor)
                if self._ranks.is_first:
                    watch(self.history)
        end = _copy_state(self._classifier)
        # Another number of processes would add the logits in another order, so a choice is made once and saved.
        kept = self._choose(end) if saved.get("kept") is None else Kept(**saved["kept"])
        self._classifier.load_state_dict(end)
        self._save({"kept": asdict(kept)})
        self._classifier.load_state_dict(_mean(self._start, end, kept.share) if kept.epoch else self._start)
        return kept

    def refit(self, kept: Kept, num_per_epoch: int) -> None:
        """Train without an inner validation for as many steps as another training took, and average as it did.

        Args:
            kept: What the other training kept.
            num_per_epoch: Number of its training images. Each epoch draws so many of this training's images at random.

        Raises:
            DataError, ParamsError, TrainingError: As `run`.
        """
        num_done = int(self._resume().get("num_epochs", 0))
        if num_done < kept.epoch:
            self._prepare_inputs()
        num_left = num_per_epoch * (kept.epoch - num_done)
        with torch.random.fork_rng(devices=[]), Progress("refit", num_left, "image") as progress:
            for number in range(num_done + 1, kept.epoch + 1):
                self._train(number, num_per_epoch, progress)
                self._save({"num_epochs": number})
        if kept.epoch:
            self._classifier.load_state_dict(_mean(self._start, _copy_state(self._classifier), kept.share))

    def _prepare_inputs(self) -> None:
        self._classifier.eval()
        self._inputs.prepare()

    def _choose(self, end: State) -> Kept:
        """Choose between the start, the last epoch and means of both (WiSE-FT: Wortsman et al. 2022, section 3).

        A mean of the weights keeps more of what the pretrained network knew, at no cost when it predicts. Earlier
        epochs are no candidates: the lowest log loss of many is low by luck, and their rates had not fallen yet.

        The calibrated log loss on the inner validation decides. It is finer than the accuracy, which changes in steps
        of one image. It is calibrated, because the temperature of the bundle corrects weights that are too confident.
        """
        start, last = self.history[0], self.history[-1]
        candidates = [Kept.of(start), Kept.of(last)]
        for share in SHARES if last.epoch else ():
            self._classifier.load_state_dict(_mean(self._start, end, share))
            candidates.append(Kept.of(self._score(last.epoch, None, 0.0), share))
        return min(candidates, key=lambda kept: kept.log_loss)

    def _train(self, number: int, num_images: int, progress: Progress) -> tuple[float, float]:
        """Train for one epoch, counted from 1, on so many images. Return its mean loss and its last rate factor."""
        start = time.monotonic()
        self._trainable_layers.set_training_mode()
        order = np.random.default_rng([self._params.seed, number]).permutation(len(self._images))[:num_images]
        batches = even_batches(order, self._params.batch)
        if len(batches[-1]) < self._ranks.rank.num_ranks:
            raise ParamsError(
                f"finetune.batch: found {self._params.batch}, so the smallest batch of {num_images} training "
                f"images has {len(batches[-1])}; expected at least {self._ranks.rank.num_ranks}, one for each process. "
                "Raise finetune.batch or lower runtime.processes"
            )
        losses, factor = Losses(self._images), 0.0
        shares = [self._ranks.share(batch) for batch in batches]
        for step, (share, inputs) in enumerate(self._inputs.training(shares, number)):
            if step == 0:
                self._stepper.rehearse(share, batches[step], inputs)
                torch.manual_seed(_seed(self._params.seed, number, self._ranks.rank.rank))  # of dropout and mixup
            factor = rate_factor(number - 1, step, len(batches), self._params)
            for group in self._stepper.optimizer.param_groups:
                group["lr"] = group["rate"] * factor
            parts = self._stepper.step(share, batches[step], inputs)
            losses.add(parts, share, f"epoch {number}, step {step + 1} of {len(batches)}")
            progress.advance(len(batches[step]))
        total = losses.total()  # here a GPU has done all steps
        self.timings.training_seconds += time.monotonic() - start
        self.timings.num_images += num_images
        return float(self._ranks.sum(total) / len(batches)), factor

    def _end_epoch(self, number: int, loss: float | None, factor: float) -> None:
        """Score an epoch and save the state."""
        self.history.append(self._score(number, loss, factor))
        self._save({})

    def _score(self, number: int, loss: float | None, factor: float) -> Epoch:
        """Return the scores of the classifier's weights on the inner validation."""
        start = time.monotonic()
        logits = self._validation_logits()
        self.timings.validation_seconds += time.monotonic() - start
        if not np.isfinite(logits).all():
            raise TrainingError(
                f"epoch {number}: the logits of the inner validation are not finite. Lower "
                "finetune.optimizer.backbone_rate and head_rate"
            )
        temperature = fit_temperature(logits, self._validation_classes)
        losses = log_losses(logits, self._validation_classes, temperature)
        return Epoch(
            epoch=number,
            rate_factor=factor,
            training_loss=loss,
            accuracy=float((logits.argmax(axis=1) == self._validation_classes).mean()),
            log_loss=float(losses.mean()),
            temperature=temperature,
        )

    def _save(self, more: Mapping[str, Any]) -> None:
        """Save the state with some more values."""
        if not self._ranks.is_first:
            return
        self._checkpoint.save(
            {
                "history": [asdict(one) for one in self.history],
                "classifier": self._classifier.state_dict(),
                "optimizer": self._stepper.optimizer.state_dict(),
                "scaler": self._stepper.scaler.state_dict(),
                **more,
            }
        )

    def _validation_logits(self) -> NDArray[np.float64]:
        """Return the logits (M, C) of the inner validation, each the mean over the views."""
        num = len(self._validation_classes)
        batches = [self._ranks.share(batch) for batch in even_batches(np.arange(num), self._params.batch)]
        self._classifier.eval()
        logits = torch.zeros(num, self._classifier.head.out_features, dtype=torch.float64)
        with torch.inference_mode():
            for batch, inputs in self._inputs.validation([batch for batch in batches if len(batch)]):
                flat = self._passes(self._classifier, inputs.flatten(0, 1))
                logits_of_views = flat.reshape(*inputs.shape[:2], -1)
                logits[torch.from_numpy(batch)] = logits_of_views.mean(dim=1).cpu().double()
        return self._ranks.sum(logits).numpy()

    def _resume(self) -> Mapping[str, Any]:
        """Return the saved state after continuing from it; empty if there is none.

        The first rank reads it for all. Machines that see different files would start at different epochs, and wait for
        each other forever.
        """
        saved: Mapping[str, Any] | None = self._checkpoint.load() if self._ranks.is_first else None
        saved = self._ranks.from_first(saved)
        if saved is None:
            return {}
        self.history = [Epoch(**one) for one in saved["history"]]
        self._classifier.load_state_dict(saved["classifier"])
        self._stepper.optimizer.load_state_dict(saved["optimizer"])
        self._stepper.scaler.load_state_dict(saved["scaler"])
        if self._ranks.is_first:
            number = saved.get("num_epochs") or self.history[-1].epoch
            print(f"finetune: continues after epoch {number} ({self._checkpoint.folder})", flush=True)
        return saved


def _copy_state(classifier: Classifier) -> State:
    """Return a copy of the classifier's tensors on the CPU, by name."""
    return {name: tensor.detach().cpu().clone() for name, tensor in classifier.state_dict().items()}


def _mean(start: State, end: State, share: float) -> State:
    """Return the mean of two states, with the weight `share` of the second one, whose counters are kept."""
    return {
        name: torch.lerp(start[name], end[name], share) if end[name].is_floating_point() else end[name] for name in end
    }


def _seed(*numbers: int) -> int:
    """Return a seed that depends on all the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
