"""Extraction: the embeddings of every usable image, from the store where it has them, into the features file."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.backbone.spec import transform_of
from headstart.base.errors import StoreError
from headstart.base.machine import Rank, num_processes, run_processes
from headstart.imaging.clock import Clock
from headstart.store.location import in_use
from headstart.tables.index import IndexRow
from stages.extract.job import Job
from stages.extract.params import Params


@dataclass(frozen=True)
class Extraction:
    """What was extracted.

    Attributes:
        num_images: Rows of the features file.
        num_embedded: Images embedded in this run; the others were in the store.
        dims: Width of each layer.
        px: Side of the network's input, resolved.
        num_views: Views of each image.
        num_bytes: Size of the features file.
        device: Where the network ran, such as `cpu`.
        engine: What ran it.
        clock: Seconds by step.
        embedding_seconds: From the first new image to the last, without the start.
        bottleneck: The step that held the others up; None if nothing was embedded here.
    """

    num_images: int
    num_embedded: int
    dims: dict[str, int]
    px: int
    num_views: int
    num_bytes: int
    device: str
    engine: str
    clock: Clock
    embedding_seconds: float
    bottleneck: str | None

    def numbers(self) -> dict[str, int]:
        """Return what is the same in every run on these images."""
        return {
            "num_images": self.num_images,
            "num_layers": len(self.dims),
            "num_views": self.num_views,
            "values_per_image": sum(self.dims.values()),
            "px": self.px,
            "num_bytes": self.num_bytes,
        }

    def timings(self) -> dict[str, float | int | str]:
        """Return what differs from run to run."""
        steps = {f"{step}_seconds": seconds for step, seconds in self.clock.seconds.items()}
        counts = {"num_embedded": self.num_embedded, "num_reused": self.num_images - self.num_embedded}
        rate = {"images_per_second": self.num_embedded / self.embedding_seconds} if self.num_embedded else {}
        bottleneck = {} if self.bottleneck is None else {"bottleneck": self.bottleneck}
        return {"device": self.device, "engine": self.engine, **counts, **rate, **steps, **bottleneck}

    def summary(self, backbone: str) -> str:
        """Return the result in a few lines."""
        layers = ", ".join(f"{layer} {dim}" for layer, dim in self.dims.items())
        lines = [
            f"{self.num_images} images at {self.px} px by {backbone} ({self.engine} on {self.device}): "
            f"{self.num_embedded} embedded, {self.num_images - self.num_embedded} reused",
            f"  layers and their width: {layers}",
        ]
        if self.num_embedded:
            steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in self.clock.seconds.items())
            held_up = "" if self.bottleneck is None else f"; the bottleneck is {self.bottleneck}"
            rate = self.num_embedded / self.embedding_seconds
            lines.append(f"  {rate:.0f} images/s; seconds over all threads: {steps}{held_up}")
        return "\n".join(lines)


def extract(index: Sequence[IndexRow], params: Params, path: Path, root: Path) -> Extraction:
    """Embed every usable image that the store lacks, and write the features file of all.

    Args:
        index: The whole index; labels and splits play no part.
        params: Backbone, transform, what is kept, and the machine's settings.
        path: Path of the features file.
        root: Folder of the stores (`store_root`).

    Raises:
        BackboneError, DownloadError: The backbone cannot be built as asked, or the GPU is too small for it.
        DataError: No usable image, or a file that is not what the index says.
        FeatureFileError: The network gave a number that is not finite.
        ParamsError: A device or engine that this machine does not have.
        StoreError: Stored embeddings are not the ones that this machine gives now, or the store cannot be written to.
    """
    with in_use(root):
        job = Job(index, params, root)
        missing = job.missing_rows()
        num = num_processes(params.runtime)
        start = time.monotonic()
        if missing and num > 1:
            if not run_processes("stages.extract", num):
                raise StoreError(
                    f"{num} processes could not fill the store (their messages are above). What is there stays."
                )
            job = Job(index, params, root)
        job.fill(job.missing_rows())
        seconds = time.monotonic() - start
        job.assemble(path)
    num_parallel = {"read": params.runtime.num_workers, "decode": params.runtime.num_workers}
    num_parallel["forward"] = job.embedder.engine.num_parallel
    return Extraction(
        num_images=len(job.rows),
        num_embedded=len(missing),
        dims=job.embedder.engine.dims,
        px=transform_of(job.embedder.spec).crop_px,
        num_views=len(job.embedder.spec["views"]),
        num_bytes=path.stat().st_size,
        device=job.embedder.device,
        engine=job.embedder.engine.name,
        clock=job.clock,
        embedding_seconds=seconds,
        bottleneck=job.clock.bottleneck(num_parallel) if missing and num == 1 else None,
    )


def fill_store(index: Sequence[IndexRow], params: Params, root: Path, rank: Rank) -> int:
    """Embed the images of one rank's part that the store lacks; return their number. Raises what `extract` does."""
    with in_use(root):
        job = Job(index, params, root, rank)
        missing = job.missing_rows()
        job.fill(missing)
        return len(missing)
