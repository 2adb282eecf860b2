"""The pixel cache: kept pictures are the same bits, stay within the budget, and damage costs only time."""

import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from headstart.pixels import cache
from headstart.pixels.cache import PixelCache, Pixels, recipe

PICTURES = {f"r/{number}": np.full((40, 30, 3), number, dtype=np.uint8) for number in range(8)}
BYTES = 40 * 30 * 3
SIZES = dict.fromkeys(PICTURES, BYTES)


def fill(folder: Path, pictures: dict[str, Pixels], budget: int = 2**30) -> PixelCache:
    """Keep pictures in a folder and return the cache."""
    made = PixelCache({name: pixels.nbytes for name, pixels in pictures.items()}, budget, "stage", folder=folder)
    for name, pixels in pictures.items():
        made.add(name, pixels)
    made.flush()
    return made


def kept(folder: Path, names: list[str] | None = None) -> set[str]:
    """Return the names that a new run finds in a folder."""
    found = PixelCache(SIZES, 2**30, "stage", folder=folder)
    return {name for name in names or SIZES if found.find(name) is not None}


def shards(folder: Path) -> list[Path]:
    """Return the shards of a folder."""
    return sorted(folder.glob("*.safetensors"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pictures=st.dictionaries(
        st.text("abc/0", min_size=1), arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, max_side=9)), min_size=1
    )
)
def test_pictures_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, pictures: dict[str, Pixels]) -> None:
    """Pictures of any shape are found before they are written, after it, and by another run."""
    folder = tmp_path_factory.mktemp("pixels")
    sizes = {name: pixels.nbytes for name, pixels in pictures.items()}
    first = PixelCache(sizes, 2**20, "stage", folder=folder)
    for name, pixels in pictures.items():
        first.add(name, pixels)
        assert np.array_equal(first.find(name), pixels)  # type: ignore[arg-type]
    first.flush()

    for one in (first, PixelCache(sizes, 2**20, "stage", folder=folder)):
        for name, pixels in pictures.items():
            found = one.find(name)
            assert found is not None
            assert (found.dtype, found.shape, found.tobytes()) == (pixels.dtype, pixels.shape, pixels.tobytes())
            assert not one.may_keep(name)


def test_only_wanted_pictures_are_kept(tmp_path: Path) -> None:
    """A picture that the run did not announce is not kept."""
    one = PixelCache({"r/1": BYTES}, 2**20, "stage", folder=tmp_path)
    one.add("r/2", PICTURES["r/2"])
    one.flush()

    assert (one.find("r/2"), shards(tmp_path)) == (None, [])


def test_without_a_budget_nothing_is_read_or_written(tmp_path: Path) -> None:
    """At 0 the folder is not made, and what another run kept there is neither used nor removed."""
    fill(tmp_path / "empty", PICTURES, budget=0)
    fill(tmp_path / "full", PICTURES)
    other = PixelCache(SIZES, 0, "stage", folder=tmp_path / "full")

    assert not (tmp_path / "empty").exists()
    assert other.find("r/1") is None
    assert len(shards(tmp_path / "full")) == 1


@pytest.mark.parametrize("damage", ["byte", "cut", "header", "empty"])
def test_a_damaged_shard_is_named_and_its_pictures_are_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    """Whatever is wrong with a shard, none of its pictures is used. It is removed, and the others stay."""
    fill(tmp_path, {name: PICTURES[name] for name in ("r/0", "r/1")})
    (bad,) = shards(tmp_path)
    fill(tmp_path, {"r/2": PICTURES["r/2"]})
    data = bytearray(bad.read_bytes())
    if damage == "byte":
        data[-5] ^= 1
    if damage == "header":
        data[:8] = b"\xff" * 8
    bad.write_bytes({"cut": bytes(data[:-9]), "empty": b""}.get(damage, bytes(data)))

    assert kept(tmp_path) == {"r/2"}
    assert f"stage: WARNING: {bad} is damaged and is removed" in capsys.readouterr().out
    assert not bad.exists()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    budget=st.integers(1, 12 * BYTES),
    runs=st.lists(st.sets(st.sampled_from(sorted(SIZES)), min_size=1), min_size=1, max_size=4),
)
def test_the_folder_stays_within_the_budget(
    tmp_path_factory: pytest.TempPathFactory, budget: int, runs: list[set[str]]
) -> None:
    """Runs with other pictures never exceed the budget, but for the headers of the shards."""
    folder = tmp_path_factory.mktemp("pixels")
    for names in runs:
        fill(folder, {name: PICTURES[name] for name in names}, budget)
        found = shards(folder)
        assert sum(path.stat().st_size for path in found) <= budget + 1024 * len(found)


def test_the_longest_unused_shards_free_space(tmp_path: Path) -> None:
    """A run removes shards that it does not use, the oldest first, and no more than it must."""
    for number, name in enumerate(["r/0", "r/1", "r/2"]):
        fill(tmp_path, {name: PICTURES[name]})
        for path in shards(tmp_path):
            if time.time() - path.stat().st_mtime < 1000:
                os.utime(path, (10_000 + number, 10_000 + number))
    fill(tmp_path, {"r/0": PICTURES["r/0"]})  # is used again, so it is the newest
    size = shards(tmp_path)[0].stat().st_size
    fill(tmp_path, {"r/5": PICTURES["r/5"]}, budget=3 * size)

    assert kept(tmp_path) == {"r/0", "r/2", "r/5"}


def test_a_lower_budget_removes_shards_that_are_in_use_too(tmp_path: Path) -> None:
    """If the budget is lowered, the folder shrinks below it, and the pictures that are left are found."""
    for name in ("r/0", "r/1", "r/2"):
        fill(tmp_path, {name: PICTURES[name]})
    size = shards(tmp_path)[0].stat().st_size
    made = PixelCache(SIZES, 2 * size, "stage", folder=tmp_path)

    assert len(shards(tmp_path)) == sum(made.find(name) is not None for name in SIZES) == 2


def test_what_others_keep_counts(tmp_path: Path) -> None:
    """After `refresh` a process adds no more than the budget leaves beside the shards of others."""
    first, second = (PixelCache(SIZES, 5 * BYTES, "stage", folder=tmp_path) for _ in range(2))
    for name in ("r/0", "r/1", "r/2"):
        first.add(name, PICTURES[name])
    first.flush()
    second.refresh()
    for name in ("r/3", "r/4", "r/5"):
        second.add(name, PICTURES[name])

    assert [second.find(name) is not None for name in sorted(SIZES)[:6]] == [True, True, True, True, False, False]


def test_nothing_is_removed_while_all_fits(tmp_path: Path) -> None:
    """Pictures of other runs stay as long as there is room."""
    fill(tmp_path, {"r/0": PICTURES["r/0"]})
    fill(tmp_path, {"r/1": PICTURES["r/1"]})

    assert kept(tmp_path) == {"r/0", "r/1"}


def test_what_does_not_fit_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the budget is too small, the run says how much is missing and which setting to raise."""
    made = fill(tmp_path, PICTURES, budget=3 * BYTES)

    assert sum(made.find(name) is not None for name in SIZES) == 3
    said = capsys.readouterr().out
    assert "28.1KiB are missing" in said
    assert "10.5KiB of them may be kept" in said
    assert "runtime.pixels" in said


def test_half_of_the_free_disk_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large budget does not fill the disk."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4 * BYTES))
    made = fill(tmp_path, PICTURES)

    assert sum(made.find(name) is not None for name in SIZES) == 2


def test_a_full_disk_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a shard cannot be written, the run says so once and goes on without it."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_bytes", fail)
    made = fill(tmp_path, PICTURES)
    made.add("r/1", PICTURES["r/1"])
    made.flush()

    assert made.find("r/1") is None
    assert capsys.readouterr().out.count("no more pictures are kept (No space left on device)") == 1


def test_a_read_only_folder_is_no_error(tmp_path: Path) -> None:
    """Where no folder can be made, nothing is kept."""
    (tmp_path / "file").write_text("")
    made = fill(tmp_path / "file" / "pixels", PICTURES)

    assert made.find("r/1") is None


def test_processes_find_each_others_pictures(tmp_path: Path) -> None:
    """What one process has written, another finds after `refresh`, even if the file is removed afterwards."""
    first, second = (PixelCache(SIZES, 2**20, "stage", num_processes=2, folder=tmp_path) for _ in range(2))
    first.add("r/1", PICTURES["r/1"])
    first.flush()
    before = second.find("r/1")
    second.refresh()
    for path in shards(tmp_path):
        path.unlink()

    assert before is None
    assert np.array_equal(second.find("r/1"), PICTURES["r/1"])  # type: ignore[arg-type]


def test_processes_share_the_budget(tmp_path: Path) -> None:
    """Each of two processes may keep half of what the budget allows."""
    made = PixelCache(SIZES, 8 * BYTES, "stage", num_processes=2, folder=tmp_path)
    for name, pixels in PICTURES.items():
        made.add(name, pixels)

    assert sum(made.find(name) is not None for name in SIZES) == 4


def test_many_threads_keep_all_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that add the same pictures at once lose none, and each picture is in one shard only."""
    monkeypatch.setattr(cache, "SHARD_BYTES", 2 * BYTES)
    made = PixelCache(SIZES, 2**20, "stage", folder=tmp_path)

    def add_all() -> None:
        for name, pixels in PICTURES.items():
            made.add(name, pixels)

    threads = [threading.Thread(target=add_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.flush()

    assert kept(tmp_path) == set(SIZES)
    assert len(shards(tmp_path)) == 4


def test_files_of_killed_runs_are_removed(tmp_path: Path) -> None:
    """A temporary file is removed when it is an hour old, and not before: another run may be writing it."""
    old, new = tmp_path / ".a.tmp", tmp_path / ".b.tmp"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    PixelCache(SIZES, 2**20, "stage", folder=tmp_path)

    assert (old.exists(), new.exists()) == (False, True)


def test_a_recipe_depends_on_code_decoders_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal settings give an equal recipe. Another setting, decoder or line of code gives another."""
    first = recipe(px=32)
    assert recipe(px=32) == first
    found = {first, recipe(px=33)}
    with monkeypatch.context() as patch:
        patch.setattr(cache, "decoder_versions", lambda: {"pillow": "0"})
        found.add(recipe(px=32))
    monkeypatch.setattr(cache, "code_digests", lambda *_: {})
    found.add(recipe(px=32))

    assert len(found) == 4
