"""Fixtures: tiny generated photos, a tiny random backbone with BatchNorm, a closed network."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import settings
from PIL import Image
from safetensors.torch import save_file

from headstart.backbone.params import BackboneParams
from headstart.base.files import sha256_file
from headstart.base.threads import num_cores
from headstart.engines.export_process import export_backbone
from headstart.sources.folder import Folder
from headstart.tables.index import IndexRow
from stages.extract.params import Params
from stages.index.build import build_index
from stages.index.params import IndexParams

TINY = "timm/test_resnet"  # 0.5 M parameters, BatchNorm, 96 numbers per image
SHARED = Path(__file__).parents[2] / "shared"
# No example may fail for being slow, and every run tries the same ones.
settings.register_profile("headstart", deadline=None, derandomize=True)
settings.load_profile("headstart")


def backbone_params(name: str, path: Path | None = None, *, published: str = "auto", **changes: Any) -> BackboneParams:
    """Return params of a backbone with its last layer alone, its weights from a file or published ones."""
    weights, digest = (published, None) if path is None else (str(path), sha256_file(path))
    values = {"weights": weights, "weights_sha256": digest, "layers": ["last"], "pooling": "mean"}
    return BackboneParams.model_validate({"name": name} | values | changes)


def extract_params(folder: Path, backbone: BackboneParams, **changes: Any) -> Params:
    """Return params of the stage `extract` for a folder of photos at 64 px, by torch; changes go by section and key."""
    sections: dict[str, dict[str, Any]] = {
        "data": {"path": str(folder)},
        "backbone": backbone.model_dump(),
        "transform": {"px": 64, "decode": "scaled"},
        "extract": {"views": 1, "seed": 0, "precision": "float32"},
        "runtime": {
            "device": "cpu",
            "processes": 1,
            "engine": "torch",
            "compile": False,
            "workers": 2,
            "batch": 4,
            "memory": 2**30,
            "store": "auto",
            "pixels": 0,
            "gpu_resize": False,
        },
    }
    for name, values in changes.items():
        sections[name] |= values
    return Params.model_validate(sections)


def index_of(folder: Path) -> list[IndexRow]:
    """Return the index of a folder of photos."""
    return build_index(Folder(folder), Folder(folder).list_files(), index_params(), num_workers=2)


def index_params(**changes: Any) -> IndexParams:
    """Return params of the stage `index` itself."""
    values = {"extensions": ["gif", "jpeg", "jpg", "png"], "max_pixels": 10**8, "on_bad": "quarantine"}
    values |= {"max_seconds": 60.0, "max_bad_fraction": 1.0, "max_removed_fraction": 0.1, "table": None}
    return IndexParams.model_validate(values | changes)


COLOURS = {"blue": (30, 60, 200), "green": (40, 180, 60), "red": (200, 40, 40)}


@pytest.fixture(scope="session", autouse=True)
def _share_the_cores() -> None:
    """Give each of several test processes its part of the cores, because more threads than cores slow all down."""
    torch.set_num_threads(max(1, num_cores() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


@pytest.fixture(autouse=True)
def closed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections of this process to other machines."""
    connect = socket.socket.connect

    def connect_to_loopback(self: socket.socket, address: tuple[str, int]) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise ConnectionRefusedError(f"the tests' network is closed: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_to_loopback)


@pytest.fixture(autouse=True)
def private_weights_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep downloaded weights of one test from any other test and from the user's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))


def write_photos(folder: Path, *, per_class: int = 4) -> None:
    """Write `<class>/<number>.<png or jpg>` of three colours with noise. Every call writes the same bytes."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for number in range(per_class):
            height, width = random.integers(30, 60, size=2)
            pixels = np.clip(np.array(colour) + random.normal(0, 40, size=(height, width, 3)), 0, 255)
            path = folder / name / f"{number}.{'png' if number % 2 else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 12 small photos in three classes."""
    folder = tmp_path / "photos"
    write_photos(folder)
    return folder


@pytest.fixture(autouse=True)
def private_engine_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep exported networks out of the user's own cache; the tests of one run share one, by content."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_folder(tmp_path_factory) / "cache"))


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of this test run share."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@contextmanager
def made_once(factory: pytest.TempPathFactory, name: str) -> Iterator[tuple[Path, bool]]:
    """Give a folder that all processes of this test run share, and whether it exists already.

    The first process makes it in the block, and the others wait until then.
    """
    folder = shared_folder(factory) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder, folder.exists()


def write_tiny_weights(path: Path) -> None:
    """Write random weights (and BatchNorm statistics) of the tiny network. Every call writes the same bytes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(TINY.removeprefix("timm/"))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    path.parent.mkdir(parents=True)
    save_file(network.state_dict(), path)


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> BackboneParams:
    """Params of a tiny network whose random weights (and BatchNorm statistics) lie in a file."""
    with made_once(tmp_path_factory, "weights") as (folder, is_there):
        path = folder / "tiny.safetensors"
        if not is_there:
            write_tiny_weights(path)
    return backbone_params(TINY, path)


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: BackboneParams) -> Path:
    """A store that holds only the tiny network, exported once for ONNX Runtime at 64 px, because that takes seconds."""
    with made_once(tmp_path_factory, "engines") as (root, is_there):
        if not is_there:
            export_backbone(tiny_backbone, 64, 64, root / "engines")
    return root


@pytest.fixture
def ants_bees() -> Path:
    """The folder of the real photos of ants and bees; the test is skipped if it is not beside this checkout."""
    folder = SHARED / "ants_bees"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: the real photos are not part of the project")
    return folder


@pytest.fixture
def squeezenet() -> Path:
    """The real weights of SqueezeNet 1.1; the test is skipped if they are not beside this checkout."""
    path = SHARED / "weights" / "squeezenet1_1.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is missing: the real weights are not part of the project")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the tests that take minutes, so that no process is left alone with one of them at the end."""
    items.sort(key=lambda item: item.path.name != "test_real_data.py")
