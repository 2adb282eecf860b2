"""Embedding: every usable image of the index through the frozen backbone, into the features file."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from stages.core.backbones import LAST_TAP, build_backbone
from stages.core.errors import BackboneError, DataError
from stages.core.features import create_features
from stages.core.progress import Progress
from stages.core.runtime import choose_device, make_repeatable
from stages.core.tables import USABLE, IndexRow
from stages.core.transforms import Transform
from stages.extract.params import Params
from stages.extract.reader import read_batches


@dataclass(frozen=True)
class Extraction:
    """What was extracted.

    Attributes:
        num_images: Rows of the features file.
        dim: Width of an embedding.
        px: Side of the network's input, resolved.
        device: Where the network ran, such as `cpu`.
    """

    num_images: int
    dim: int
    px: int
    device: str


def extract(index: Sequence[IndexRow], params: Params, path: Path) -> Extraction:
    """Embed every usable image and write the features file.

    Args:
        index: The whole index; labels and splits play no part.
        params: Backbone, transform, and the machine's settings.
        path: Of the features file.

    Raises:
        BackboneError, DownloadError: The backbone cannot be built as asked, or the GPU is too small for the batch.
        DataError: No usable image, or a file that is not what the index says.
        FeatureFileError: The network gave a number that is not finite.
    """
    rows = sorted((row for row in index if row.status in USABLE), key=lambda row: row.digest)
    if not rows:
        raise DataError("data/index.csv: has no usable image. Run: dvc repro index")
    device = choose_device(params.runtime)
    make_repeatable()
    backbone = build_backbone(params.backbone)
    transform = backbone.transform_for(
        params.transform.px, statistics.median(min(row.width, row.height) for row in rows)
    )
    batches = read_batches(
        rows,
        Path(params.data.path),
        transform,
        batch=params.runtime.batch,
        num_workers=params.runtime.num_workers,
        memory_bytes=params.runtime.memory,
    )
    digests = [row.digest for row in rows]
    spec = backbone.spec(transform)
    try:
        network = backbone.network.to(device).to(memory_format=torch.channels_last)
        dim = backbone.dim(transform.crop_px)
        with (
            create_features(path, digests, spec, {LAST_TAP: dim}, num_views=1) as writer,
            Progress("extract", len(rows), "image") as progress,
        ):
            for pixels in batches:
                embeddings = embed(network, transform, pixels, params.runtime.batch, device)
                writer.append({LAST_TAP: embeddings[:, None].numpy()})
                progress.advance(len(pixels))
    except torch.OutOfMemoryError as error:
        raise BackboneError(f"{device}: out of memory at runtime.batch {params.runtime.batch}; lower it") from error
    return Extraction(len(rows), dim, transform.crop_px, str(device))


def embed(
    network: nn.Module, transform: Transform, pixels_BCHW: torch.Tensor, batch: int, device: torch.device
) -> torch.Tensor:
    """Return float32 (B, dim) embeddings, on the CPU, of uint8 pixels (B, 3, px, px), B at most `batch`.

    A smaller batch is filled up with blank pictures: other batch sizes may take other kernels and give other bits, and
    then an image's embedding would depend on how many images came after it.
    """
    num_images = len(pixels_BCHW)
    if num_images < batch:
        blank = pixels_BCHW.new_zeros((batch - num_images, *pixels_BCHW.shape[1:]))
        pixels_BCHW = torch.cat([pixels_BCHW, blank])
    with torch.inference_mode():
        inputs = transform.normalize(pixels_BCHW.to(device)).contiguous(memory_format=torch.channels_last)
        return network(inputs)[:num_images].float().cpu()
