"""The embedder: the frozen backbone on its device, pixels in, embeddings out."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stages.core.backbones import Backbone
from stages.core.errors import BackboneError
from stages.core.images import decode
from stages.core.transforms import Transform


class Embedder:
    """Turns pixels into embeddings, always in batches of the same shape.

    Attributes:
        dim: Width of an embedding.

    Args:
        backbone: Frozen; its network is moved to the device.
        transform: What the network is shown.
        batch: Images in a forward pass.
        device: Where to compute.
    """

    def __init__(self, backbone: Backbone, transform: Transform, batch: int, device: torch.device) -> None:
        self._transform, self._batch, self._device = transform, batch, device
        self._network = backbone.network.to(device).to(memory_format=torch.channels_last)
        self.dim = backbone.dim(transform.crop_px)

    def embed(self, pixels_BCHW: torch.Tensor) -> NDArray[np.float32]:
        """Return float32 (B, 1, dim) embeddings of uint8 pixels (B, 3, px, px), B at most the batch.

        A smaller batch is filled up with blank pictures: other batch sizes may take other kernels and give other bits,
        and then an image's embedding would depend on how many images came after it.

        Raises:
            BackboneError: The GPU's memory does not hold a batch.
        """
        num_images = len(pixels_BCHW)
        if num_images < self._batch:
            blank = pixels_BCHW.new_zeros((self._batch - num_images, *pixels_BCHW.shape[1:]))
            pixels_BCHW = torch.cat([pixels_BCHW, blank])
        try:
            with torch.inference_mode():
                inputs = self._transform.normalize(pixels_BCHW.to(self._device))
                outputs = self._network(inputs.contiguous(memory_format=torch.channels_last))
                return outputs[:num_images, None].float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise BackboneError(f"{self._device}: out of memory at runtime.batch {self._batch}; lower it") from error

    def embed_files(self, files: Sequence[bytes], max_pixels: int) -> NDArray[np.float32]:
        """Return float32 (N, 1, dim) embeddings of a few image files, given by their bytes.

        Raises:
            ImageError: A file gives no picture.
        """
        pixels = torch.stack([self._transform.pixels(decode(data, max_pixels).image) for data in files])
        starts = range(0, len(pixels), self._batch)
        return np.concatenate([self.embed(pixels[start : start + self._batch]) for start in starts])
