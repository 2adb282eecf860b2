"""Memory that does not suffice: forward passes take fewer inputs at a time, and training says which params help."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from headstart.base.errors import TrainingError
from headstart.base.machine import allow_unrepeatable, is_out_of_memory
from stages.finetune.params import FinetuneParams


class ForwardPasses:
    """Forward passes without gradients. Where memory does not suffice, a pass takes half of the inputs, and stays so.

    On CUDA every pass has the same number of inputs, because cuDNN plans its work anew for each number, which can take
    seconds. The last pass is filled up with copies of inputs, whose results are left out.

    Args:
        device: Device of the inputs.
        size: Number of inputs in a pass on CUDA. Elsewhere a pass takes all that it is given.
    """

    def __init__(self, device: torch.device, size: int) -> None:
        self._device = device
        self._fills_up = device.type == "cuda"
        self._size = size if self._fills_up else sys.maxsize

    def __call__(self, function: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        """Return function(inputs), float32 (B, ...).

        Args:
            function: Function of inputs (B, ...) that treats each on its own.
            inputs: float32 (B, ...), at least one.

        Raises:
            RuntimeError: The memory does not hold a single input.
        """
        while True:
            try:
                with torch.inference_mode():
                    parts = torch.split(inputs, min(self._size, len(inputs)))
                    return torch.cat([self._pass(function, part) for part in parts])
            except RuntimeError as error:
                if not allow_unrepeatable(error):
                    self._halve(len(inputs), error)

    def _pass(self, function: Callable[[torch.Tensor], torch.Tensor], part: torch.Tensor) -> torch.Tensor:
        return function(fill_up(part, self._size) if self._fills_up else part)[: len(part)]

    def _halve(self, num_inputs: int, error: RuntimeError) -> None:
        size = self._size if self._fills_up else min(self._size, num_inputs)
        if not is_out_of_memory(error) or size == 1:
            raise error
        self._size = (size + 1) // 2
        print(f"finetune: {self._device}: out of memory; {self._size} pictures at once from now on", flush=True)


def fill_up(inputs: torch.Tensor, size: int) -> torch.Tensor:
    """Return inputs (B, ...) with copies of them appended, (size, ...)."""
    if len(inputs) >= size:
        return inputs
    copies = -(-size // len(inputs))
    return torch.cat([inputs] * copies)[:size]


@contextmanager
def explain_out_of_memory(device: torch.device, params: FinetuneParams) -> Iterator[None]:
    """Turn a lack of memory inside a `with` block into an error that names the params that help.

    Args:
        device: Device of the classifier.
        params: Params of the training.

    Raises:
        TrainingError: The device has too little memory.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"{device}: out of memory at a batch of {params.batch} in {params.accumulate} part(s). Raise "
            "finetune.accumulate (more parts, same result), or lower finetune.batch or transform.px"
        ) from error
