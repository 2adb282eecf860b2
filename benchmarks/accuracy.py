"""Seconds to the same accuracy: fine-tuning with the default params, and the tutorial's training loop.

python -m benchmarks.accuracy PHOTOS [--num-epochs 25]
"""

import os
import re
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.finetune import VALIDATE, Photos, Tutorial
from benchmarks.options import make_parser
from benchmarks.rounds import machine, seconds_of
from headstart.backbone.build import build_backbone
from headstart.tables.predictions import read_predictions
from headstart.tables.rows import read_rows
from headstart.tables.split import SplitRow
from stages.finetune.params import Params
from stages.params import load_params

BATCH, STEP_EPOCHS, GAMMA = 4, 7, 0.1  # the tutorial's


def fine_tune_project(project: Path, photos: Path) -> tuple[float, float]:
    """Run the pipeline up to fine-tuning in a clone; return the seconds of that stage and the test accuracy."""
    params = (project / "params.yaml").read_text(encoding="utf-8")
    params = re.sub(r"(?m)^  path: data/digits\b", f"  path: {photos}", params)
    (project / "params.yaml").write_text(params, encoding="utf-8")
    run = partial(subprocess.run, check=True, cwd=project)
    run(["dvc", "repro", "--quiet", "extract", "split"])
    seconds = seconds_of(lambda: run(["dvc", "repro", "--single-item", "finetune"]))
    found = read_predictions(project / "predictions" / "finetune.csv")
    predicted = np.array(found.classes)[found.logits.argmax(axis=1)]
    return seconds, float(np.mean(predicted == np.array(found.labels)))


def main() -> None:
    """Fine-tune, then train as the tutorial does until it is as accurate on the test photos, or ends."""
    parser = make_parser(__doc__)
    parser.add_argument("photos", type=Path, help="folder of photos with train/ and val/, such as ants & bees")
    parser.add_argument("--num-epochs", type=int, default=25, help="most epochs of the tutorial (default: %(default)s)")
    given = parser.parse_args()
    photos = given.photos.absolute()
    with tempfile.TemporaryDirectory() as name:
        project = Path(name) / "project"
        subprocess.run(["git", "clone", "--quiet", ".", str(project)], check=True)  # noqa: S607
        os.environ["HEADSTART_STORE"] = str(Path(name) / "store")
        seconds, wanted = fine_tune_project(project, photos)
        print(f"{machine()}, torch {torch.__version__}")
        print(f"fine-tune: accuracy {wanted:.3f} after {seconds:.0f} s, with imports, probe and choice of the epoch")
        split = read_rows(project / "data" / "split.csv", SplitRow)
        classes = sorted({row.label for row in split})
        backbone = build_backbone(load_params(Params, project / "params.yaml").backbone)
        training, test = ([row for row in split if (row.split == "test") == is_it] for is_it in (False, True))
        torch.manual_seed(0)
        tutorial = Tutorial(photos, training, classes, backbone.network, BATCH)
        schedule = torch.optim.lr_scheduler.StepLR(tutorial.optimizer, STEP_EPOCHS, GAMMA)
        loader = DataLoader(Photos(photos, test, classes, VALIDATE), batch_size=BATCH, num_workers=2)

        def accuracy() -> float:
            tutorial.network.eval()
            with torch.inference_mode():
                right = sum(int((tutorial.network(inputs).argmax(1) == labels).sum()) for inputs, labels in loader)
            return right / len(test)

        spent = 0.0
        for epoch in range(1, given.num_epochs + 1):
            spent += seconds_of(tutorial.train_epoch)
            schedule.step()
            found = accuracy()  # its seconds are not counted, although the tutorial spends them too
            print(f"tutorial: epoch {epoch}: accuracy {found:.3f} after {spent:.0f} s", flush=True)
            if found >= wanted:
                break


if __name__ == "__main__":
    main()
