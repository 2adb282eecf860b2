"""The extraction: writes the embeddings of every usable image, from the store or the network, to a features file."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.backbone.spec import transform_of
from headstart.base.errors import StoreError
from headstart.base.launch import run_processes
from headstart.base.machine import Rank, num_processes
from headstart.imaging.clock import Clock
from headstart.store.location import in_use
from headstart.store.upkeep import outdated_stores
from headstart.tables.index import IndexRow
from stages.extract.extractor import Extractor
from stages.extract.params import Params

_IMAGES_PER_PROCESS = 2000  # starting a process takes as long as embedding some thousand images


@dataclass(frozen=True)
class Extraction:
    """The result of an extraction.

    Attributes:
        num_images: Number of rows of the features file.
        num_embedded: Images embedded in this run; the others were in the store.
        dims: Number of values of each layer's embedding, by layer.
        px: Side of the pictures that the network took, in pixels.
        num_views: Views of each image.
        num_bytes: Size of the features file in bytes.
        device: Device that ran the network, such as `cpu`.
        engine: Engine that ran it, `onnx` or `torch`.
        clock: Seconds by step.
        embedding_seconds: Seconds from the first new image to the last, without the start of this process; with that of
            several processes, which is not known apart.
        bottleneck: Step that the others waited for; None if this process embedded nothing.
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
        """Return the numbers that are the same in every run on these images."""
        return {
            "num_images": self.num_images,
            "num_layers": len(self.dims),
            "num_views": self.num_views,
            "values_per_image": sum(self.dims.values()),
            "px": self.px,
            "num_bytes": self.num_bytes,
        }

    def timings(self) -> dict[str, float | int | str]:
        """Return the numbers that differ from run to run."""
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
            rate = f"  {self.num_embedded / self.embedding_seconds:.0f} images/s"
            if self.bottleneck is None:
                lines.append(f"{rate}, the start of the processes included")
            else:
                steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in self.clock.seconds.items())
                lines.append(f"{rate}; seconds over all threads: {steps}; the bottleneck is {self.bottleneck}")
        return "\n".join(lines)


def extract(index: Sequence[IndexRow], params: Params, path: Path, root: Path) -> Extraction:
    """Embed every usable image that is not in the store, and write the features file of all images.

    Args:
        index: All rows of the index. Labels and splits play no part.
        params: Params of the stage.
        path: Path of the features file.
        root: Folder of the stores (`store_root`).

    Raises:
        BackboneError, DownloadError: The backbone cannot be built, or the memory of the GPU does not hold it.
        DataError: There is no usable image, or a file differs from the index.
        FeatureFileError: The network gave a value that is not finite.
        ParamsError: This machine does not have the device or engine.
        StoreError: This machine gives other embeddings than the stored ones, or the store cannot be written.
    """
    outdated = outdated_stores(root)
    if outdated:
        print(
            f"extract: {len(outdated)} stores in {root} are of an earlier version and not used. Images are "
            "embedded again. To delete the old stores: python -m headstart store prune --outdated"
        )
    with in_use(root):
        extractor = Extractor(index, params, root)
        missing = extractor.missing_rows()
        num = num_processes(params.runtime, most=len(missing) // _IMAGES_PER_PROCESS)
        seconds = 0.0
        if missing and num > 1:
            extractor.embedder.engine.close()  # the processes need the memory of the device
            start = time.monotonic()
            if not run_processes("stages.extract", num):
                raise StoreError(
                    f"{num} processes could not fill the store (see their messages). Finished embeddings are kept."
                )
            seconds = time.monotonic() - start
            extractor = Extractor(index, params, root)
        start = time.monotonic()
        extractor.fill(extractor.missing_rows())
        seconds += time.monotonic() - start
        extractor.assemble(path)
    num_parallel = {"read": params.runtime.num_workers, "decode": params.runtime.num_workers}
    num_parallel["forward"] = extractor.embedder.engine.num_parallel
    return Extraction(
        num_images=len(extractor.rows),
        num_embedded=len(missing),
        dims=extractor.embedder.engine.dims,
        px=transform_of(extractor.embedder.spec).crop_px,
        num_views=len(extractor.embedder.spec["views"]),
        num_bytes=path.stat().st_size,
        device=extractor.embedder.device,
        engine=extractor.embedder.engine.name,
        clock=extractor.clock,
        embedding_seconds=seconds,
        bottleneck=extractor.clock.bottleneck(num_parallel) if missing and num == 1 else None,
    )


def fill_store(index: Sequence[IndexRow], params: Params, root: Path, rank: Rank) -> int:
    """Embed the images of one rank that are not in the store, and return their number. Raises what `extract` does."""
    with in_use(root):
        extractor = Extractor(index, params, root, rank)
        missing = extractor.missing_rows()
        extractor.fill(missing)
        return len(missing)
