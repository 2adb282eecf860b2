"""Assembly of a large features file from shards in bounded memory, against stacking all in memory.

python -m benchmarks.assemble [--rows 1000000] [--dim 512]
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

from benchmarks.rounds import machine, seconds_of
from headstart.artifacts.features import create_features
from headstart.imaging.clock import peak_memory_bytes
from headstart.store.shards import SHARD_BYTES, SHARD_PATTERN, Store, unpack, write_shard

CANARY = "00" * 32


def fill(folder: Path, num_rows: int, dim: int) -> None:
    """Write shards of random rows as runs do: each with the images that came together, its digests ascending."""
    random = np.random.default_rng(0)
    per_shard = SHARD_BYTES // (dim * 2)
    for start in range(0, num_rows, per_shard):
        numbers = range(start, min(start + per_shard, num_rows))
        digests = sorted(hashlib.sha256(number.to_bytes(8, "little")).digest() for number in numbers)
        packed = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)
        rows = random.standard_normal((len(packed), 1, dim), dtype=np.float32).astype(np.float16)
        write_shard(folder, packed, rows, np.zeros(32, dtype=np.uint8))


def ours(folder: Path, path: Path) -> None:
    """Assemble as `extract` does, the store opened and verified first."""
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
    """Load everything, sort it and write it at once."""
    tensors = [load_file(shard) for shard in sorted(folder.glob(SHARD_PATTERN))]
    digests = np.concatenate([unpack(shard["digest"]) for shard in tensors])
    rows = np.concatenate([shard["embedding"] for shard in tensors])
    order = np.argsort(digests)
    with h5py.File(path, "w") as file:
        file["digest"] = digests[order]
        file["layers/last"] = rows[order]


def main() -> None:
    """Fill a store, then assemble it by each contestant in a process of its own, three rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--contestant", choices=["ours", "in_memory"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contestant:
        base = peak_memory_bytes()
        work = {"ours": ours, "in_memory": in_memory}[given.contestant]
        seconds = seconds_of(lambda: work(given.folder, given.folder.parent / f"{given.contestant}.h5"))
        mebibytes = peak_memory_bytes() / 2**20
        print(f"{given.contestant}: {seconds:.1f} s, peak {mebibytes:.0f} MiB ({base / 2**20:.0f} before)")
        return
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "store"
        seconds = seconds_of(lambda: fill(folder, given.rows, given.dim))
        print(f"filling {given.rows} x {given.dim} float16: {seconds:.0f} s")
        for _ in range(3):
            for name in ("ours", "in_memory"):
                command = [sys.executable, "-m", "benchmarks.assemble", "--contestant", name, "--folder", str(folder)]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
