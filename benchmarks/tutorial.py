"""Fine-tuning by the tutorial's recipe as a contestant of `benchmarks.data`."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.accuracy import BATCH, GAMMA, STEP_EPOCHS
from benchmarks.contestants import Contestant, Task
from benchmarks.finetune import VALIDATE, Photos, Tutorial
from benchmarks.rounds import seconds_of
from benchmarks.workspace import ROOT
from headstart.backbone.build import build_backbone
from headstart.tables.predictions import Predictions
from stages.finetune.params import Params
from stages.params import load_params


def tutorial(folder: Path, num_epochs: int) -> Contestant:
    """Return fine-tuning of all layers as a contestant, which classifies the test images after the last epoch.

    The tutorial keeps the epoch that is best on the test images. No rival may look at them, so the last one counts.

    Args:
        folder: Folder of the images.
        num_epochs: Number of epochs; the tutorial has 25.
    """

    def run(task: Task) -> tuple[Predictions, float]:
        torch.manual_seed(0)
        network = build_backbone(load_params(Params, ROOT / "params.yaml").backbone).network
        trained = Tutorial(folder, task.part("train"), task.classes, network, BATCH)
        schedule = torch.optim.lr_scheduler.StepLR(trained.optimizer, STEP_EPOCHS, GAMMA)
        seconds = 0.0
        for _ in range(num_epochs):
            seconds += seconds_of(trained.train_epoch)
            schedule.step()
        photos = Photos(folder, task.part("test"), task.classes, VALIDATE)
        loader = DataLoader(photos, batch_size=32, num_workers=2)
        trained.network.eval()
        with torch.inference_mode():
            logits = np.concatenate([trained.network(inputs).double().numpy() for inputs, _ in loader])
        return task.predictions(logits), seconds

    return run
