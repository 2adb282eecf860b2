"""The reader's memory: how many pictures may be decoded at once."""

import threading

import pytest

from headstart.imaging.clock import peak_memory_bytes
from headstart.imaging.reader import memory_for_decoding


@pytest.mark.parametrize(("device", "beside_each_other"), [("cpu", False), ("cuda:0", True)])
def test_the_libraries_of_a_gpu_leave_memory_for_decoding(device: str, *, beside_each_other: bool) -> None:
    """Where libraries hold more than `runtime.memory`, a CPU decodes one picture at a time, a GPU several."""
    memory = peak_memory_bytes() // 2
    budget = memory_for_decoding(memory, device)
    second = threading.Event()

    def decode() -> None:
        with budget.hold(memory // 4):
            second.set()

    thread = threading.Thread(target=decode)
    with budget.hold(memory // 4):
        thread.start()
        assert second.wait(0.2) == beside_each_other
    thread.join()
    assert second.is_set()
