"""Process groups of pretended devices: NCCL's rules, on gloo."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import distributed
from torch.utils._pytree import tree_leaves

from tests.rehearsal.state import Device

_COLLECTIVES = ("all_reduce", "broadcast", "reduce", "all_gather", "all_gather_into_tensor", "reduce_scatter_tensor")


class HangError(AssertionError):
    """A real process group would wait here for other processes, which never come."""


@contextmanager
def pretended(device: Device) -> Iterator[None]:
    """Let groups of NCCL be made inside a `with` block. Their collectives take tensors of the device alone."""
    init, destroy, backend_of = (
        distributed.init_process_group,
        distributed.destroy_process_group,
        distributed.get_backend,
    )
    backends = device.log.backends

    def init_process_group(backend: str | None = None, *args: Any, **kwargs: Any) -> None:
        backends.append(backend or "cpu:gloo,cuda:nccl")
        bound = kwargs.pop("device_id", None)
        if bound is not None and "nccl" in backends[-1] and torch.device(bound) != device.current:
            raise HangError(f"the group is bound to {bound}, but the current device is {device.current}")
        init("gloo", *args, **kwargs)

    def destroy_process_group(*args: Any) -> None:
        if sys.exc_info()[0] is not None:
            raise HangError("the group is destroyed after an error: NCCL waits for collectives of the other processes")
        destroy(*args)

    def checked(name: str, collective: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(collective)
        def call(*args: Any, **kwargs: Any) -> Any:
            device.log.collectives.append(name)
            for tensor in tree_leaves((args, kwargs)):
                if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu" and backends[-1] == "nccl":
                    raise RuntimeError("No backend type associated with device type cpu")
            return collective(*args, **kwargs)

        return call

    patches = {name: checked(name, getattr(distributed, name)) for name in _COLLECTIVES}
    patches |= {"init_process_group": init_process_group, "destroy_process_group": destroy_process_group}
    patches["get_backend"] = lambda *args: backends[-1] if backends else backend_of(*args)
    with ExitStack() as stack:
        for name, value in patches.items():
            stack.enter_context(mock.patch(f"torch.distributed.{name}", value))
        yield
