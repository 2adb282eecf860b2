"""The features file: equal content is equal bytes, it is whole or absent, and a wrong one is an error."""

import functools
import hashlib
import operator
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headstart.artifacts.features import check_finite, create_features, fingerprint, open_features
from headstart.base.errors import FeatureFileError
from tests.support.source import ROOT

SPEC: dict[str, Any] = {
    "backbone": "tiny",
    "precision": "float32",
    "layers": ["last"],
    "transform": {"resize_px": 256, "mean": [0.5]},
    "views": ["center", "mirror"],
}
DIGESTS = sorted(hashlib.sha256(bytes([number])).hexdigest() for number in range(7))
ROWS: NDArray[np.float32] = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)


def write(path: Path, cuts: list[int] | None = None) -> bytes:
    """Write ROWS in pieces that end at the given rows, and return the bytes of the file."""
    with create_features(path, DIGESTS, SPEC, {"last": 3}) as writer:
        for piece in np.split(ROWS, cuts or []):
            writer.append("last", piece)
    return path.read_bytes()


def test_layout_is_the_contract(tmp_path: Path) -> None:
    """The file holds exactly the datasets and attributes that other tools may rely on."""
    path = tmp_path / "f.h5"
    write(path)

    with h5py.File(path) as file:
        assert sorted(file) == ["checksums", "digest", "layers"]
        assert list(file["layers"]) == list(file["checksums"]) == ["last"]
        words = ROWS.view(np.uint32).reshape(7, 6)
        assert [0xFFFFFFFF ^ functools.reduce(operator.xor, row) for row in words.tolist()] == list(
            file["checksums/last"]
        )
        assert [digest.decode() for digest in file["digest"]] == DIGESTS
        assert np.array_equal(file["layers/last"], ROWS)
        assert file["layers/last"].dtype == np.float32
        assert file["layers/last"].chunks is None
        assert sorted(file.attrs) == ["fingerprint", "schema", "spec"]
        assert file.attrs["schema"] == "headstart.features/3"
        assert file.attrs["fingerprint"] == fingerprint(SPEC)


@given(st.lists(st.integers(0, 7)))
def test_bytes_do_not_depend_on_the_batches(cuts: list[int]) -> None:
    """Rows written in any pieces give the same bytes, so DVC skips the stages after it."""
    with TemporaryDirectory() as folder:
        assert write(Path(folder) / "a.h5", sorted(cuts)) == write(Path(folder) / "b.h5")


@given(st.permutations(DIGESTS), st.integers(1, 7))
def test_rows_come_back_in_the_order_asked_for(digests: list[str], count: int) -> None:
    """Any images, asked for in any order, get their own rows."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "f.h5"
        write(path)
        with open_features(path, SPEC) as features:
            rows = features.read("last", digests[:count])

    assert np.array_equal(rows, ROWS[[DIGESTS.index(digest) for digest in digests[:count]]])


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    """An error while writing leaves the old file unchanged, and no temporary file."""
    path = tmp_path / "f.h5"
    before = write(path)
    with (
        pytest.raises(RuntimeError, match="power cut"),
        create_features(path, DIGESTS, SPEC, {"last": 3}) as writer,
    ):
        writer.append("last", ROWS[:4])
        raise RuntimeError("power cut")

    assert [file.name for file in tmp_path.iterdir()] == ["f.h5"]
    assert path.read_bytes() == before


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    """The next run removes the half-written file of a killed run, which could be as large as the features."""
    (tmp_path / ".f.h5.abcd.tmp").write_bytes(b"half")
    write(tmp_path / "f.h5")

    assert [file.name for file in tmp_path.iterdir()] == ["f.h5"]


def test_two_runs_do_not_delete_each_others_file(tmp_path: Path) -> None:
    """A file that another run is writing is no leftover: both runs end, and the file is whole."""
    path = tmp_path / "f.h5"
    with create_features(path, DIGESTS, SPEC, {"last": 3}) as writer:
        whole = write(path)
        writer.append("last", ROWS)

    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_missing_rows_are_refused(tmp_path: Path) -> None:
    """If rows were never written, no file appears."""
    with (
        pytest.raises(FeatureFileError, match="4 of 7 rows"),
        create_features(tmp_path / "f.h5", DIGESTS, SPEC, {"last": 3}) as writer,
    ):
        writer.append("last", ROWS[:4])

    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite_are_refused() -> None:
    """An embedding that is not finite is an error that names its image."""
    rows = ROWS.copy()
    rows[5, 1, 2] = np.nan
    with pytest.raises(FeatureFileError, match=f"image {DIGESTS[5]} .* is not finite"):
        check_finite(DIGESTS, "last", rows)


@pytest.mark.parametrize("digests", [DIGESTS[::-1], [*DIGESTS, DIGESTS[-1]]])
def test_digests_must_ascend(tmp_path: Path, digests: list[str]) -> None:
    """Digests out of order or repeated are an error before anything is written."""
    with (
        pytest.raises(FeatureFileError, match="the digests are not ascending or not unique"),
        create_features(tmp_path / "f.h5", digests, SPEC, {"last": 3}),
    ):
        pass


def test_another_spec_is_named_by_key_and_values(tmp_path: Path) -> None:
    """A file with another spec is an error with the first difference, both values and the remedy."""
    path = tmp_path / "f.h5"
    write(path)
    expected = {**SPEC, "transform": {"resize_px": 232, "mean": [0.5]}}

    with (
        pytest.raises(FeatureFileError) as caught,
        open_features(path, expected),
    ):
        pass

    assert f"{path}: transform.resize_px is 256; this run expects 232. Run: dvc repro extract" == str(caught.value)


def test_missing_image_and_layer_are_named(tmp_path: Path) -> None:
    """An image or a layer that the file lacks is an error that names it."""
    path = tmp_path / "f.h5"
    write(path)
    with open_features(path) as features:
        with pytest.raises(FeatureFileError, match="no row for 1 of 2 images, the first 0000"):
            features.read("last", [DIGESTS[0], "0" * 64])
        with pytest.raises(FeatureFileError, match="no layer 'first'"):
            features.read("first", DIGESTS)


def test_half_precision_is_kept_and_read_as_single(tmp_path: Path) -> None:
    """In float16 the file takes half the bytes, and readers get float32."""
    path = tmp_path / "f.h5"
    half = ROWS.astype(np.float16)
    with create_features(path, DIGESTS, SPEC | {"precision": "float16"}, {"last": 3}) as writer:
        writer.append("last", half)

    with h5py.File(path) as file:
        assert file["layers/last"].dtype == np.float16
    with open_features(path) as features:
        rows = features.read("last", DIGESTS)
        assert rows.dtype == np.float32
        assert np.array_equal(rows, half)
        assert np.array_equal(np.concatenate(list(features.blocks("last", 30))), half)


def _limit_file_bytes() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing beyond the limit fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path: Path) -> None:
    """If the disk has no room for the rows, the process ends with one message, and the old file stays."""
    path = tmp_path / "f.h5"
    before = write(path)
    code = (
        "from pathlib import Path\nfrom headstart.artifacts.features import create_features\n"
        "from headstart.base.entry import run_main\nfrom tests.unit.artifacts.test_features import DIGESTS, SPEC\n"
        f"create = create_features(Path({str(path)!r}), DIGESTS, SPEC, {{'last': 1000}})\n"
        "run_main('extract', create.__enter__)"
    )
    command, limit = [sys.executable, "-c", code], _limit_file_bytes
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, cwd=ROOT)

    assert done.returncode == 1
    assert re.fullmatch(r"extract: \[Errno 27\] File too large: '.*f\.h5.*'\n", done.stderr)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def damage(path: Path, kind: str) -> None:
    """Damage a features file in one way."""
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    elif kind == "text":
        path.write_text("not HDF5")
    else:
        with h5py.File(path, "a") as file:
            if kind == "schema":
                file.attrs["schema"] = "headstart.features/0"
            elif kind == "spec":
                file.attrs["spec"] = file.attrs["spec"].replace("256", "255")
            elif kind == "no layers":
                del file["layers"]
            elif kind == "no checksums":
                del file["checksums/last"]
            elif kind == "rows":
                del file["layers/last"]
                file["layers/last"] = ROWS[:5]
            elif kind == "extra layer":
                file["layers/other"] = ROWS


@given(st.integers(0, 7 * 2 * 3 * 4 - 1), st.integers(0, 7), st.sampled_from(["read", "pieces", "blocks"]))
def test_a_flipped_bit_is_noticed(place: int, bit: int, how: str) -> None:
    """If one bit of the embeddings changes on the disk, every way to read the row is an error that names the image."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "f.h5"
        data = bytearray(write(path))
        data[data.index(ROWS.tobytes()) + place] ^= 1 << bit
        path.write_bytes(data)
        row = place // (2 * 3 * 4)
        whole = [digest for number, digest in enumerate(DIGESTS) if number != row]
        with open_features(path) as features:
            ways = {
                "read": lambda: features.read("last", DIGESTS),
                "pieces": lambda: list(features.pieces(["last"], features.rows(DIGESTS), 50)),
                "blocks": lambda: list(features.blocks("last", 50)),
            }
            with pytest.raises(FeatureFileError, match=rf"1 rows are damaged.*{DIGESTS[row]}\. Run: dvc repro -f -s"):
                ways[how]()
            assert np.array_equal(features.read("last", whole), np.delete(ROWS, row, axis=0))


@pytest.mark.parametrize(
    "kind", ["missing", "truncated", "text", "schema", "spec", "no layers", "no checksums", "rows", "extra layer"]
)
def test_damaged_files_are_refused(tmp_path: Path, kind: str) -> None:
    """Any damage of the file is an error that names the file and says what to run."""
    path = tmp_path / "f.h5"
    write(path)
    damage(path, kind)

    with pytest.raises(FeatureFileError, match=r"f\.h5: .*Run: dvc repro (-f -s )?extract"), open_features(path):
        pass


def test_no_flipped_bit_is_read_or_escapes(tmp_path: Path) -> None:
    """Any flipped bit either does not matter or is an error that says how to make the file anew."""
    path, random = tmp_path / "f.h5", np.random.default_rng(0)
    write(path)
    whole, num_refused = path.read_bytes(), 0
    used = np.flatnonzero(np.frombuffer(whole, dtype=np.uint8))  # most of a small file is empty space of HDF5
    for place, bit in zip(random.choice(used, 200), random.integers(8, size=200), strict=True):
        data = bytearray(whole)
        data[place] ^= 1 << bit
        path.write_bytes(data)
        try:
            with open_features(path) as features:
                assert np.array_equal(features.read("last", DIGESTS), ROWS)
        except FeatureFileError as error:
            assert "dvc repro" in str(error)
            num_refused += 1
    assert num_refused > 100


@given(st.sets(st.integers(0, 6)), st.integers(1, 100))
def test_pieces_are_the_rows_that_reading_gives(chosen: set[int], num_bytes: int) -> None:
    """Pieces of any length hold the rows that `read` returns at once."""
    with TemporaryDirectory() as folder:
        write(Path(folder) / "f.h5")
        with open_features(Path(folder) / "f.h5") as features:
            digests = [DIGESTS[number] for number in sorted(chosen)]
            pieces = list(features.pieces(["last"], features.rows(digests), num_bytes))
            expected = features.read("last", digests) if digests else ROWS[:0]

    assert np.array_equal(np.concatenate([[], *(numbers for numbers, _ in pieces)]), np.arange(len(digests)))
    assert np.array_equal(np.concatenate([ROWS[:0], *(rows for _, rows in pieces)]), expected)


def test_the_width_of_a_layer_is_known(tmp_path: Path) -> None:
    """The width of a layer is known without reading rows, and an unknown layer is an error that names it."""
    write(tmp_path / "f.h5")
    with open_features(tmp_path / "f.h5") as features:
        assert features.dim("last") == 3
        with pytest.raises(FeatureFileError, match="no layer 'first'"):
            features.dim("first")
