"""Stage `extract`: the images that data/index.csv names -> features/features.h5, metrics/extract.json."""

import time
from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Embed every image and say how many, how wide and how fast."""
    from stages.core.files import write_metrics
    from stages.core.params import load_params
    from stages.core.tables import IndexRow, read_rows
    from stages.extract.params import Params

    params = load_params(Params)
    index = read_rows(Path("data/index.csv"), IndexRow)

    from stages.extract.extraction import extract  # imports torch: only when params and index are in order
    from stages.extract.store import store_root

    start = time.monotonic()
    done = extract(index, params, Path("features/features.h5"), store_root(params.runtime))
    seconds = time.monotonic() - start
    numbers = {"num_images": done.num_images, "dim": done.dim, "px": done.px}
    write_metrics(Path("metrics/extract.json"), "extract", numbers)
    print(
        f"extract: {done.num_images} images at {done.px} px by {params.backbone.name} on {done.device}, "
        f"{done.dim} numbers each: {done.num_embedded} embedded, {done.num_images - done.num_embedded} reused, "
        f"{seconds:.1f} s"
    )


if __name__ == "__main__":
    run_room("extract", main)
