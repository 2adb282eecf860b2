"""Whatever is wrong with a safetensors file, there is one kind of error."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from headstart.base.tensor_files import TensorFileError, parse_tensors, read_tensors

WHOLE = save({"x": np.arange(12, dtype=np.float32).reshape(3, 4)}, metadata={"made": "here"})


def with_header(**changes: Any) -> bytes:
    """Return a file whose header says something else of the tensor."""
    num_bytes = int.from_bytes(WHOLE[:8], "little")
    header = json.loads(WHOLE[8 : 8 + num_bytes])
    header["x"] |= changes
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + WHOLE[8 + num_bytes :]


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    """A whole file gives its tensors and its metadata."""
    (tmp_path / "f").write_bytes(WHOLE)
    tensors, metadata = read_tensors(tmp_path / "f")

    assert tensors["x"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert metadata == {"made": "here"}


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "BF16", "shape": [6, 4]},
        {"dtype": "F8_E4M3", "shape": [48]},
        {"dtype": "F8_E8M0", "shape": [48]},
        {"dtype": "F4", "shape": [96]},
        {"dtype": "F128"},
        {"shape": [1] * 100 + [12]},
        {"shape": [2**33, 2**33]},
        {"shape": [-1, 4]},
        {"data_offsets": [0, 2**63]},
        {"data_offsets": [48, 0]},
        {"data_offsets": [8, 48]},
    ],
)
def test_a_header_that_was_edited_by_hand_is_one_error(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Types that numpy lacks, shapes that overflow, and offsets outside are the same error, by both ways to read."""
    data = with_header(**changes)
    (tmp_path / "f").write_bytes(data)

    with pytest.raises(TensorFileError):
        parse_tensors(data)
    with pytest.raises(TensorFileError):
        read_tensors(tmp_path / "f")


@given(st.binary(max_size=40), st.integers(0, len(WHOLE)))
def test_any_bytes_give_tensors_or_that_error(noise: bytes, place: int) -> None:
    """Noise anywhere in a file never raises anything else."""
    for data in (noise, WHOLE[:place] + noise + WHOLE[place + len(noise) :], WHOLE[:place]):
        with suppress(TensorFileError):
            parse_tensors(data)
