"""Writing a large features file from shards: block by block as `extract` does, and all at once in memory.

python -m benchmarks.assemble [--num-rows 1000000] [--dim 512]
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import load_file

from benchmarks.options import make_parser
from benchmarks.rounds import machine, seconds_of
from headstart.artifacts.features import create_features
from headstart.imaging.clock import peak_memory_bytes
from headstart.store.shards import SHARD_BYTES, SHARD_PATTERN, Store, unpack, write_shard

CANARY = "00" * 32


def fill(folder: Path, num_rows: int, dim: int) -> None:
    """Write shards of random rows as runs of `extract` do: each with some images, sorted by digest."""
    random = np.random.default_rng(0)
    per_shard = SHARD_BYTES // (dim * 2)
    for start in range(0, num_rows, per_shard):
        numbers = range(start, min(start + per_shard, num_rows))
        digests = sorted(hashlib.sha256(number.to_bytes(8, "little")).digest() for number in numbers)
        packed = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)
        rows = random.standard_normal((len(packed), 1, dim), dtype=np.float32).astype(np.float16)
        write_shard(folder, packed, rows, np.zeros(32, dtype=np.uint8))


def block_by_block(folder: Path, path: Path) -> None:
    """Open and verify the store, then write the features file as `extract` does."""
    shards = sorted(folder.glob(SHARD_PATTERN))
    wanted = np.sort(np.concatenate([unpack(load_file(shard)["digest"]) for shard in shards]))
    spec = {"layers": ["last"], "views": ["center"], "precision": "float16"}
    start = time.perf_counter()
    store = Store(folder, spec, CANARY, wanted)
    opened = time.perf_counter()
    dim = store.read(np.zeros(1, dtype=np.intp)).shape[2]
    with create_features(path, wanted.astype(str).tolist(), spec, {"last": dim}) as writer:
        for rows in store.blocks():
            writer.append("last", rows)
    print(f"opened and verified in {opened - start:.1f} s, assembled in {time.perf_counter() - opened:.1f} s", end="; ")


def in_memory(folder: Path, path: Path) -> None:
    """Load all shards, sort the rows and write them at once."""
    tensors = [load_file(shard) for shard in sorted(folder.glob(SHARD_PATTERN))]
    digests = np.concatenate([unpack(shard["digest"]) for shard in tensors])
    rows = np.concatenate([shard["embedding"] for shard in tensors])
    order = np.argsort(digests)
    with h5py.File(path, "w") as file:
        file["digest"] = digests[order]
        file["layers/last"] = rows[order]


def main() -> None:
    """Fill a store, then write the features file in both ways, each in its own process, in three rounds."""
    parser = make_parser(__doc__)
    parser.add_argument("--num-rows", type=int, default=1_000_000, help="number of rows (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=512, help="values per row (default: %(default)s)")
    parser.add_argument("--contestant", choices=["block_by_block", "in_memory"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contestant:
        base = peak_memory_bytes()
        work = {"block_by_block": block_by_block, "in_memory": in_memory}[given.contestant]
        seconds = seconds_of(lambda: work(given.folder, given.folder.parent / f"{given.contestant}.h5"))
        mebibytes = peak_memory_bytes() / 2**20
        print(f"{given.contestant}: {seconds:.1f} s, peak {mebibytes:.0f} MiB ({base / 2**20:.0f} MiB before)")
        return
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "store"
        seconds = seconds_of(lambda: fill(folder, given.num_rows, given.dim))
        print(f"filling {given.num_rows} x {given.dim} float16: {seconds:.0f} s")
        for _ in range(3):
            for name in ("block_by_block", "in_memory"):
                command = [sys.executable, "-m", "benchmarks.assemble", "--contestant", name, "--folder", str(folder)]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
