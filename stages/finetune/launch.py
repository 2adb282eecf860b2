"""Tuning: from images, labels and cached embeddings to a fine-tuned classifier, its bundle and predictions."""

from collections.abc import Callable, Sequence

from headstart.artifacts.features import Features
from headstart.base.errors import TrainingError
from headstart.base.machine import Rank, num_processes, run_processes, this_rank
from headstart.tables.index import IndexRow
from headstart.tables.split import SplitRow
from stages.finetune.epochs import Epoch
from stages.finetune.job import FineTuned, Job
from stages.finetune.params import Params


def fine_tune(
    features: Features,
    index: Sequence[IndexRow],
    split: Sequence[SplitRow],
    *,
    classes: Sequence[str],
    split_sha256: str,
    params: Params,
    watch: Callable[[Sequence[Epoch]], None],
) -> FineTuned | None:
    """Train, by several processes where there are several GPUs, and predict the test images.

    Args:
        features: Open features file, whose spec says how the network sees images.
        index: The whole index.
        split: Every row.
        classes: (C,) order of the logits.
        split_sha256: Digest of the split table.
        params: Params of the stage.
        watch: Called with the history after every epoch.

    Returns:
        None where torchrun started this process: then training goes into the checkpoint, and all ends there.

    Raises:
        BackboneError, DownloadError: The backbone cannot be built as asked.
        DataError: Tables that do not fit each other, too few images, or a file that is not what the index says.
        FeatureFileError: The features are not of this backbone, or lack the layer or the images of the probe.
        ParamsError: A device, a layer or a class that is not there.
        TrainingError: Numbers that are not finite, too little memory, or processes that failed.
    """
    rank, num = this_rank(), num_processes(params.runtime)
    job = Job(features, index, split, classes=classes, split_sha256=split_sha256, params=params)
    if rank is None and num > 1 and not run_processes("stages.finetune", num):
        raise TrainingError(f"{num} processes could not train (their messages are above). The next run goes on there.")
    return job.run(rank or Rank(0, 1), watch, report=rank is None)
