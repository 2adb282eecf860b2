"""The decoder: uploads become pixels before the model's thread sees them, so that a slow one holds up nobody else."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from headstart.backbone.spec import transform_of
from headstart.base.helpers import Helpers
from headstart.base.threads import num_cores
from headstart.imaging.effort import Limits, is_plain
from headstart.predict.image_like import DecodedImage
from headstart.predict.inputs import LoadedImage
from headstart.predict.model import Model

# A photo of 16 megapixels, or a progressive one of 1.6 in ten scans: a tenth of a second. Others go to the helpers.
_MOST_EFFORT = 2**24
# Pixels of the images that are decoded and wait for the model: 7,000 images of 224 px with one view.
_MOST_BYTES = 2**30


class Decoder:
    """Decodes the files of requests: ordinary ones in threads, those that may take long in helpers.

    Helpers leave the cores to the rest of the server, and have a queue of their own. A request has at most one file
    less in work than there are threads, so that another one finds a thread soon. A context manager.

    Args:
        model: Model whose views are made.
        max_pixels: Largest width x height of an image.
        max_seconds: Seconds from the call of `decoded` to the end of all decoding that may take long.
    """

    def __init__(self, model: Model, max_pixels: int, max_seconds: float) -> None:
        self._model, self._limits = model, Limits(max_pixels, max_seconds, _MOST_EFFORT)
        spec = model.bundle.spec
        self._bytes_per_image = len(spec["views"]) * transform_of(spec).crop_px ** 2 * 3
        self._held, self._changed = 0, asyncio.Condition()
        num = max(2, num_cores())
        self._num_at_once = num - 1
        self._helpers = Helpers(num, in_background=True)
        self._ordinary, self._slow = ThreadPoolExecutor(num, "decoder"), ThreadPoolExecutor(num, "slow decoder")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in (self._ordinary, self._slow):
            pool.shutdown(cancel_futures=True)
        self._helpers.__exit__(kind, error, trace)

    @asynccontextmanager
    async def decoded(self, files: Sequence[LoadedImage]) -> AsyncIterator[list[DecodedImage]]:
        """Give the files of a request as images, in their order. The block holds the memory of their pixels.

        Args:
            files: The files. Each has the limits of the decoder; its seconds count from now.
        """
        limits = self._limits.begun()
        num_bytes = len(files) * self._bytes_per_image
        async with self._changed:
            await self._changed.wait_for(lambda: not self._held or self._held + num_bytes <= _MOST_BYTES)
            self._held += num_bytes
        try:
            free = asyncio.Semaphore(self._num_at_once)
            yield await asyncio.gather(*(self._decode(file, limits, free) for file in files))
        finally:
            self._held -= num_bytes
            async with self._changed:
                self._changed.notify_all()

    async def _decode(self, file: LoadedImage, limits: Limits, free: asyncio.Semaphore) -> DecodedImage:
        async with free:
            run = asyncio.get_running_loop().run_in_executor
            with file.used() as data:
                is_ordinary = await run(self._ordinary, is_plain, data, limits.most_effort)
            pool = self._ordinary if is_ordinary else self._slow
            return await run(pool, self._model.decode, file, limits, self._helpers)
