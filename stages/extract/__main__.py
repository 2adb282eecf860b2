"""Stage `extract`: the images that data/index.csv names -> features/features.h5, diagnostics/extract.json.

Under torchrun it only fills the store: `torchrun --nproc-per-node=2 -m stages.extract`.
"""

from pathlib import Path

from stages.running import run_stage


def main() -> None:
    """Embed every image, and print counts, the width of each layer, the speed and the bottleneck."""
    from headstart.tables.index import IndexRow
    from headstart.tables.metrics import write_metrics, write_timings
    from headstart.tables.rows import read_rows
    from stages.extract.params import Params
    from stages.params import load_params

    params = load_params(Params)
    index = read_rows(Path("data/index.csv"), IndexRow)

    from headstart.base.machine import this_rank, wait_for_others
    from headstart.store.location import store_root
    from stages.extract.extraction import extract, fill_store

    root = store_root(params.runtime)
    rank = this_rank()
    if rank is not None:
        num_embedded = fill_store(index, params, root, rank)
        print(f"extract: rank {rank.rank} of {rank.num_ranks}: {num_embedded} images embedded into {root}", flush=True)
        wait_for_others(rank)
        return
    done = extract(index, params, Path("features/features.h5"), root)
    write_metrics(Path("diagnostics/extract.json"), done.numbers())
    if done.num_embedded:  # otherwise the timings of the last run that embedded something stay
        write_timings("extract", done.timings())
    print(f"extract: {done.summary(params.backbone.name)}")


if __name__ == "__main__":
    run_stage("extract", main)
