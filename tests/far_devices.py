"""Two devices on a machine that has none, `far:0` and `far:1`, which refuse to compute with tensors of each other.

    import far_devices                                  # torch knows them from here on
    network = dispatch(network, device_map(network, far_devices.FREE))

A tensor there is a shell around one of the CPU, by torch's own backend for Python: every operation is done on the CPU, unless it
is given tensors of two devices, which is an error as on GPUs. Only copies go from one to the other. A GPU is kinder in one thing:
it takes indices and masks that lie on the CPU.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.library import Library
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

aten = torch.ops.aten
COPIES = (aten.copy_.default, aten._to_copy.default)
FREE = {"far:0": 10**9, "far:1": 10**9}
"""What is free on them."""


class _Devices(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list:
        return [torch.bfloat16]

    def device_count(self) -> int:
        return 2


class FarTensor(Tensor):
    """A tensor that is `near` and says that it is on another device."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor, device: torch.device) -> "FarTensor":
        with torch.inference_mode(False):  # else views of weights that were made before would be refused
            layout = {"strides": near.stride(), "storage_offset": near.storage_offset(), "dtype": near.dtype}
            shell = Tensor._make_wrapper_subclass(cls, near.size(), device=device, **layout)
        shell.near = near
        return shell

    def tolist(self) -> list:
        return self.near.tolist()

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, other: "FarTensor") -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        Tensor.data.__set__(self, other)  # pyright: ignore[reportAttributeAccessIssue]
        self.near = other.near

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        if _can_decompose(func):
            return func.decompose(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {})


_can_decompose = cache(lambda func: func._can_decompose())


def _run(func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """An operation on the CPU, and its results where they belong."""
    given: list[Tensor] = []
    near_args, near_kwargs = _each(partial(_near, given), args), _each(partial(_near, given), kwargs)
    far = [tensor for tensor in given if isinstance(tensor, FarTensor)]
    there = {tensor.device for tensor in given if isinstance(tensor, FarTensor) or tensor.dim()}
    if len(there) > 1 and func not in COPIES:
        raise RuntimeError(f"{func}: tensors on {' and '.join(sorted(map(str, there)))}")
    place = kwargs.get("device") or (args[0] if func in COPIES else far[0]).device
    results = func(*near_args, **near_kwargs)
    if place.type == "cpu":
        return results
    shells = {id(tensor.near): tensor for tensor in far}  # of what was changed in place
    return _each(lambda result: shells[id(result)] if id(result) in shells else _far(result, place), results)


def _each(make: Callable[[Any], Any], value: Any) -> Any:
    """The same of everything in lists and the like."""
    if isinstance(value, dict):
        return {key: _each(make, one) for key, one in value.items()}
    return type(value)(_each(make, one) for one in value) if type(value) in (list, tuple) else make(value)


def _near(given: list[Tensor], value: Any) -> Any:
    """What the CPU takes in place of a value; tensors are noted."""
    if isinstance(value, Tensor):
        given.append(value)
        return value.near if isinstance(value, FarTensor) else value
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _far(result: Any, place: torch.device) -> Any:
    return FarTensor(result, torch.device("far", place.index or 0)) if isinstance(result, Tensor) else result


def _copy_from(source: Tensor, target: FarTensor, non_blocking: bool = False) -> Tensor:
    target.near.copy_(source.near if isinstance(source, FarTensor) else source)
    return target


_setup_privateuseone_for_python_backend("far", _Devices())
LIBRARY = Library("aten", "IMPL")
for _op in (aten.empty.memory_format, aten.empty_strided.default):
    LIBRARY.impl(_op, lambda *args, op=_op, **kwargs: _run(op, args, kwargs), "PrivateUse1")
LIBRARY.impl("_copy_from", _copy_from, "PrivateUse1")
