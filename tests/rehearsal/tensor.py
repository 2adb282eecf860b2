"""Tensors of a pretended device, and what torch's functions do with them.

A tensor of the device is a tensor of the CPU whose class is `DeviceTensor`. Arithmetic and autograd are those of the
CPU. Every call of torch's Python interface with such a tensor, or with a `device`, goes through `call`. It refuses what
a real device refuses, logs copies and waits, and gives the results the class.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from tests.rehearsal.log import Transfer, line_of_project
from tests.rehearsal.state import active, is_active

T = torch.Tensor
Call = Callable[..., Any]
Args = Sequence[Any]
Options = Mapping[str, Any]
HOST = torch.device("cpu")
_NO_COMPUTATION = {"__get__", "__set__", "_has_compatible_shallow_copy_type"}  # tensors of several devices may meet
plain = torch._C.DisableTorchFunctionSubclass  # inside it, tensors of the device are ordinary ones


class DeviceTensor(torch.Tensor):
    """A tensor that says it is on the device."""

    _place: torch.device

    device = property(lambda self: self._place)
    is_cuda = property(lambda self: self._place.type == "cuda")
    is_mps = property(lambda self: self._place.type == "mps")
    is_cpu = property(lambda _: False)

    @classmethod
    def __torch_function__(cls, func: Call, types: Any, args: Args = (), kwargs: Options | None = None) -> Any:
        """See `call`."""
        return call(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> "DeviceTensor":
        if id(self) not in memo:
            with plain():
                copied = mark(self.detach().clone().requires_grad_(self.requires_grad), self._place)
            if hasattr(self, "_is_param"):
                copied._is_param = True
            memo[id(self)] = copied
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.detach().cpu().__reduce_ex__(protocol)


class Mode(TorchFunctionMode):
    """Sees the calls without a tensor of the device too: tensors are made there or copied there."""

    def __torch_function__(self, func: Call, types: Any, args: Args = (), kwargs: Options | None = None) -> Any:
        """See `call`."""
        return call(func, args, kwargs or {})


def call(func: Call, args: Args, kwargs: Options) -> Any:
    """Do what one of torch's functions does, as if the device were a real one."""
    handler = HANDLERS.get(func, _compute)
    if not is_active():  # a thread that outlives the device
        with plain():
            return func(*args, **kwargs)
    if getattr(func, "__name__", "") == "__set__" and func.__self__.__name__ == "data":  # type: ignore[attr-defined]
        handler = _set_data
    with plain():
        return handler(func, args, kwargs)


def mark(tensor: torch.Tensor, place: torch.device) -> DeviceTensor:
    """Turn a tensor into one of the device, in place."""
    if place.type == "mps" and tensor.dtype in (torch.float64, torch.complex128):
        raise TypeError(
            "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
            "Please use float32 instead."
        )
    if type(tensor) is torch.nn.Parameter:
        tensor._is_param = True
    if not isinstance(tensor, DeviceTensor):
        tensor.__class__ = DeviceTensor
    tensor._place = place  # type: ignore[attr-defined]
    return tensor  # type: ignore[return-value]


def parse_device(value: Any) -> torch.device | None:
    """Return the device that an argument of one of torch's functions names; None if it names none."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = torch.device(active().kind, value)
    if not isinstance(value, (str, torch.device)):
        return None
    device = torch.device(value)
    if device.type != active().kind:
        return device
    place = torch.device(device.type, active().current.index if device.index is None else device.index)
    if place.index >= active().count:
        raise RuntimeError(f"CUDA error: invalid device ordinal ({place} of {active().count})")
    return place


def _compute(func: Call, args: Args, kwargs: Options) -> Any:
    """Compute on the device of the arguments, or make a tensor on the device that `device` names."""
    leaves = tree_leaves((args, kwargs))
    ours = [leaf for leaf in leaves if isinstance(leaf, DeviceTensor)]
    named = parse_device(kwargs.get("device"))
    is_made_here = named is not None and named.type == active().kind
    is_pinned = bool(kwargs.get("pin_memory"))
    if not ours and not is_made_here and not is_pinned:
        return func(*args, **kwargs)
    name = getattr(func, "__name__", str(func))
    place = ours[0].device if ours else named
    if ours and name not in _NO_COMPUTATION:
        _check_places(name, leaves, ours)
        for tensor in ours:
            active().check_order(tensor)
        active().fail(name, ours)
        active().log.computed[name] += 1
    options = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory")}
    if named is not None and not is_made_here:
        options["device"] = named
    out = func(*args, **options)
    known = {id(leaf) for leaf in leaves}
    for leaf in tree_leaves(out):
        if isinstance(leaf, T) and id(leaf) not in known:
            if is_pinned:
                active().pinned.append(leaf)
            elif named is None or is_made_here:
                mark(leaf, named or place)  # type: ignore[arg-type]
    if active().captured is not None and name not in _NO_COMPUTATION:
        active().captured.append((func, args, options, out))  # type: ignore[union-attr]
    return out


def _check_places(name: str, leaves: Sequence[Any], ours: Sequence[DeviceTensor]) -> None:
    """Refuse tensors of several devices. Single numbers of the CPU may stand beside tensors of the device."""
    places = {tensor.device for tensor in ours}
    places |= {HOST for leaf in leaves if isinstance(leaf, T) and not isinstance(leaf, DeviceTensor) and leaf.dim()}
    if len(places) > 1:
        found = " and ".join(sorted(map(str, places), reverse=True))
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {found}! (in {name})"
        )


def _wait(func: Call, args: Args, kwargs: Options) -> Any:
    """Do what gives the host numbers of the device, so that it waits for them."""
    if any(isinstance(leaf, DeviceTensor) for leaf in tree_leaves((args, kwargs))):
        active().wait()
    return _compute(func, args, kwargs)


def _numpy(func: Call, args: Args, kwargs: Options) -> Any:
    source = args[0]
    if not isinstance(source, DeviceTensor):
        return func(*args, **kwargs)
    if kwargs.get("force") or (func is T.numpy and len(args) > 1):
        return _move(source.detach(), HOST).numpy()
    raise TypeError(
        f"can't convert {source.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
        "memory first."
    )


def _to(func: Call, args: Args, kwargs: Options) -> Any:
    """Change device or type."""
    source, *rest = args
    options = dict(kwargs)
    given = [*rest, options.pop("other", None), options.pop("dtype", None), options.pop("device", None)]
    place = HOST if func is T.cpu else active().current if func is T.cuda else source.device
    dtype = source.dtype
    for value in given:
        if isinstance(value, T):
            place, dtype = value.device, value.dtype
        elif isinstance(value, torch.dtype):
            dtype = value
        elif (named := parse_device(value)) is not None:
            place = named
    flags = [value for value in rest if isinstance(value, bool)]
    non_blocking = options.pop("non_blocking", flags[0] if flags else False)
    if place == source.device:
        return _compute(T.to, (source, dtype), options)
    return _move(source, place, dtype, non_blocking=non_blocking, **options)


def _move(
    source: torch.Tensor,
    place: torch.device,
    dtype: torch.dtype | None = None,
    *,
    non_blocking: bool = False,
    **options: Any,
) -> torch.Tensor:
    """Copy a tensor to another device."""
    options.pop("copy", None)
    moved = T.to(source, dtype or source.dtype, **options)
    if moved.data_ptr() == source.data_ptr():
        moved = moved.clone(memory_format=torch.preserve_format)
    if place.type not in ("cpu", active().kind):
        raise RuntimeError(f"this machine has no {place}")
    if place.type != "cpu":
        active().fail("to", [mark(moved, place)])
    _transfer(source, moved, non_blocking=non_blocking, into_new_memory=True)
    return moved


def _transfer(source: torch.Tensor, target: torch.Tensor, *, non_blocking: bool, into_new_memory: bool) -> None:
    """Log a copy between devices whose numbers are in place, and wait for it or leave it in flight."""
    device, is_up = active(), source.device.type == "cpu"
    if not is_up and target.device.type != "cpu":
        return  # from one device to another
    host, there = (source, target) if is_up else (target, source)
    # torch copies a tensor of another type or layout by way of memory that is not pinned. What it copies down without
    # blocking into new memory, it pins.
    is_direct = source.dtype == target.dtype and source.stride() == target.stride()
    is_pinned = (is_direct and device.is_pinned(host)) or (non_blocking and not is_up and into_new_memory)
    is_blocking = not (non_blocking and is_pinned)
    copy = Transfer(tuple(target.shape), target.dtype, is_pinned, is_blocking, line_of_project())
    (device.log.up if is_up else device.log.down).append(copy)
    if not is_blocking:
        device.start(host, there, is_up=is_up)
    elif not non_blocking or not is_up:
        device.wait()


def _copy(func: Call, args: Args, kwargs: Options) -> Any:
    target, source, *rest = args
    if not isinstance(source, T) or target.device == source.device:
        return _compute(func, args, kwargs)
    func(target, source)
    _transfer(source, target, non_blocking=kwargs.get("non_blocking", bool(rest and rest[0])), into_new_memory=False)
    return target


def _from_host(func: Call, args: Args, kwargs: Options) -> Any:
    """Make a tensor from numbers of the host: `torch.tensor`, `torch.as_tensor`."""
    place = parse_device(kwargs.get("device"))
    data = args[0] if args else kwargs["data"]
    if place is None or place.type != active().kind or isinstance(data, DeviceTensor):
        return _compute(func, args, kwargs)
    made = func(*args, **{key: value for key, value in kwargs.items() if key != "device"})
    return _move(made, place)


def _index(func: Call, args: Args, kwargs: Options) -> Any:
    """Read or write elements. Positions on the CPU are copied up; those on the device serve its own tensors only."""
    target, positions, *value = args
    inner = [leaf for leaf in tree_leaves(positions) if isinstance(leaf, T)]
    if not isinstance(target, DeviceTensor) and any(isinstance(leaf, DeviceTensor) for leaf in inner):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    if value and isinstance(value[0], T) and value[0].device != target.device and value[0].dim() and not inner:
        part = call(T.__getitem__, (target, positions), {})
        return call(T.copy_, (part, value[0]), {})
    if not isinstance(target, DeviceTensor):
        return _compute(func, args, kwargs)
    moved = [(leaf, _move(leaf, target.device)) for leaf in inner if not isinstance(leaf, DeviceTensor) and leaf.dim()]
    if moved:
        known = {id(leaf): there for leaf, there in moved}
        many = positions if isinstance(positions, tuple) else (positions,)
        positions = tuple(known.get(id(one), one) for one in many)
    if func is T.__getitem__ and any(leaf.dtype == torch.bool for leaf in inner):
        active().wait()  # for the number of elements
    return _compute(func, (target, positions, *value), kwargs)


def _pin(_: Call, args: Args, __: Options) -> torch.Tensor:
    if isinstance(args[0], DeviceTensor):
        raise RuntimeError(f"cannot pin '{args[0].device}' only dense CPU tensors can be pinned")  # noqa: TRY004
    pinned = args[0].clone()
    active().pinned.append(pinned)
    return pinned


def _set_data(func: Call, args: Args, _: Options) -> None:
    """Give a tensor other memory, as a module does when it moves: the tensor moves, too."""
    tensor, data = args
    func(tensor, data)
    if isinstance(data, DeviceTensor):
        mark(tensor, data.device)
    elif isinstance(tensor, DeviceTensor):
        tensor.__class__ = torch.nn.Parameter if hasattr(tensor, "_is_param") else torch.Tensor  # type: ignore[assignment]


_WAITS: list[Call] = [
    *(T.item, T.tolist, T.__float__, T.__int__, T.__bool__, T.__index__, T.__complex__, T.__contains__),
    *(T.__repr__, T.__format__, T.nonzero, T.masked_select, T.equal, T.allclose, T.unique),
    *(torch.nonzero, torch.masked_select, torch.equal, torch.allclose, torch.unique, torch.argwhere, T.argwhere),
]
HANDLERS: dict[Call, Callable[[Call, Args, Options], Any]] = {
    **dict.fromkeys(_WAITS, _wait),
    **dict.fromkeys([T.to, T.cpu, T.cuda, T.type_as], _to),
    T.numpy: _numpy,
    T.__array__: _numpy,
    **dict.fromkeys([T.__getitem__, T.__setitem__], _index),
    **dict.fromkeys([torch.tensor, torch.as_tensor], _from_host),
    T.copy_: _copy,
    T.__iter__: lambda _, args, kwargs: iter(_compute(T.unbind, args, kwargs)),
    T.pin_memory: _pin,
    T.is_pinned: lambda _, args, __: not isinstance(args[0], DeviceTensor) and active().is_pinned(args[0]),
}
