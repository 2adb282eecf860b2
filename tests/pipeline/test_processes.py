"""Several processes under torchrun fill one store together, and no image is embedded twice."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from headstart.backbone.params import BackboneParams
from headstart.store.shards import SHARD_PATTERN, unpack
from tests.conftest import write_photos
from tests.support.project import Project, clone_project

NUM_PHOTOS = 240
# Each process of the clone imports this at its start. Small shards and a slow disk make a run that can be interrupted.
SITE = """
import time
from headstart.imaging import reader
from headstart.store import shards
shards.SHARD_BYTES = 4 * 96 * 4
pixels = reader.Reader.pixels
reader.Reader.pixels = lambda *given: time.sleep(0.02) or pixels(*given)
"""


@pytest.fixture
def project(tmp_path: Path, tiny_backbone: BackboneParams, engines: Path) -> Project:
    """Make a clone with photos and their index, and an empty store."""
    project = clone_project(tmp_path / "project")
    project.use_photos(tiny_backbone, engines)
    write_photos(project.root / "data" / "photos", per_class=NUM_PHOTOS // 3)
    project.run("python", "-m", "stages.index")
    (project.root / "site").mkdir()
    (project.root / "site" / "sitecustomize.py").write_text(SITE)
    return project


def environment(project: Project) -> dict[str, str]:
    """Return an environment in which Python imports the clone and the slow disk."""
    path = f"{project.root / 'site'}{os.pathsep}{project.root}"
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def torchrun(project: Project, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start `torchrun OPTIONS -m stages.extract` in the clone."""
    command = [sys.executable, "-m", "torch.distributed.run", *options, "--max-restarts=3", "-m", "stages.extract"]
    with subprocess.Popen(
        command, cwd=project.root, env=environment(project), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        yield process


def shards(project: Project) -> list[Path]:
    """Return the finished shards."""
    return list((project.root / ".cache" / "embeddings").glob(f"*/{SHARD_PATTERN}"))


def images_in(paths: list[Path]) -> Counter[bytes]:
    """Count how often each image is in some shards."""
    counts: Counter[bytes] = Counter()
    for path in paths:
        counts.update(unpack(load_file(path)["digest"]).tolist())
    return counts


def kill_a_worker(project: Project, num_shards: int) -> None:
    """Wait for a number of finished shards, then kill one of the processes that work in the clone."""
    while len(shards(project)) < num_shards:
        time.sleep(0.01)
    workers = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            is_here = (process / "cwd").resolve() == project.root.resolve()
        except OSError:
            continue
        if is_here and words[-3:-1] == [b"-m", b"stages.extract"] and b"torch.distributed.run" not in words:
            workers.append(int(process.name))
    os.kill(sorted(workers)[-1], signal.SIGKILL)


def assemble(project: Project) -> str:
    """Run the stage alone, and return its output."""
    return project.run("python", "-m", "stages.extract")


def features_of_one_process(project: Project) -> bytes:
    """Return the bytes of the features file that one process makes, with an empty store of its own."""
    path = project.root / "features" / "features.h5"
    other = project.root / "other"
    other.mkdir()
    (other / "engines").symlink_to(project.root / ".cache" / "embeddings" / "engines")
    project.edit_params(runtime={"store": str(other), "processes": 1})
    assert f"{NUM_PHOTOS} embedded, 0 reused" in assemble(project)
    return path.read_bytes()


@pytest.mark.parametrize("num", [2, 4])
def test_processes_share_the_work(project: Project, num: int) -> None:
    """Exactly one process embeds each image; the next run only assembles and gives the bytes of one process."""
    with torchrun(project, "--standalone", f"--nproc-per-node={num}") as run:
        output, _ = run.communicate()
    assert run.returncode == 0, output
    counts = [int(count) for count in re.findall(rf"rank \d of {num}: (\d+) images embedded", output)]
    assert sum(counts) == NUM_PHOTOS
    assert len(counts) == num
    assert min(counts) > 0
    assert set(images_in(shards(project)).values()) == {1}

    assert f"0 embedded, {NUM_PHOTOS} reused" in assemble(project)
    mine = (project.root / "features" / "features.h5").read_bytes()
    assert mine == features_of_one_process(project)


def test_the_stage_starts_its_processes_itself(project: Project) -> None:
    """With `runtime.processes: 2` the stage starts two processes that fill the store, and then assembles."""
    project.edit_params(runtime={"processes": 2})
    output = assemble(project)

    assert len(re.findall(r"rank \d of 2: \d+ images embedded", output)) == 2
    assert f"{NUM_PHOTOS} embedded, 0 reused" in output
    mine = (project.root / "features" / "features.h5").read_bytes()
    assert mine == features_of_one_process(project)


def test_a_process_that_dies_is_started_again(project: Project) -> None:
    """A process that is killed is started again, and images in finished shards are not embedded again."""
    with torchrun(project, "--standalone", "--nproc-per-node=2") as run:
        kill_a_worker(project, 10)
        finished = shards(project)
        output, _ = run.communicate()

    assert run.returncode == 0, output
    assert set(finished) <= set(shards(project))
    assert set(images_in(shards(project)).values()) == {1}
    assert f"0 embedded, {NUM_PHOTOS} reused" in assemble(project)
    mine = (project.root / "features" / "features.h5").read_bytes()
    assert mine == features_of_one_process(project)


@pytest.mark.parametrize("when", [10, 50])  # of 60 shards: in the middle, and when some processes are done
def test_two_machines_fill_one_store(project: Project, when: int) -> None:
    """Two torchrun agents with two processes each finish the work, although one process is killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--nnodes=2", "--nproc-per-node=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}")
    with (
        torchrun(project, *options, "--rdzv-id=test", "--local-addr=127.0.0.1") as first,
        torchrun(project, *options, "--rdzv-id=test", "--local-addr=127.0.0.1") as second,
    ):
        kill_a_worker(project, when)
        outputs = [agent.communicate()[0] for agent in (first, second)]

    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert len(images_in(shards(project))) == NUM_PHOTOS
    assert set(images_in(shards(project)).values()) == {1}
    assert f"0 embedded, {NUM_PHOTOS} reused" in assemble(project)
    mine = (project.root / "features" / "features.h5").read_bytes()
    assert mine == features_of_one_process(project)
