"""A CUDA device that is not there, for tests on machines without a GPU.

Its tensors say cuda:0 and compute on the CPU. As on a GPU, they do not mix with tensors of the CPU. What the host would wait
for, the kernels that would be launched and the bytes that would be copied are counted. It knows nothing of time, of memory, of
CUDA's own rounding, or of autocast: whatever the dtype of a run, the network computes in float32.
"""

from __future__ import annotations

import collections
import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

import vie_models

CPU, CUDA, META = torch.device("cpu"), torch.device("cuda:0"), torch.device("meta")
_PACKAGE = str(Path(vie_models.__file__).parent)
_WAIT = {"_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "masked_select"}
_WAIT |= {"bincount", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"}  # their size is on the device
_NO_KERNEL = {"view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "detach", "alias", "diagonal"}
_NO_KERNEL |= {"unsqueeze", "squeeze", "split", "unbind", "as_strided", "lift_fresh", "split_with_sizes", "chunk", "unfold"}
_NO_KERNEL |= {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_reshape_alias", "record_stream"}
_INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
_MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu"


class FakeCuda(TorchDispatchMode):
    """What the device was asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: collections.Counter[str] = collections.Counter()
        """What the host waited for, with the line that asked for it."""
        self.kernels: collections.Counter[str] = collections.Counter()
        """Kernels launched, by operator."""
        self.copied = 0
        """Bytes copied to the device."""
        self._pinned: dict[int, torch.Tensor] = {}

    def reset(self) -> None:
        """Starts counting again."""
        self.waits.clear()
        self.kernels.clear()
        self.copied = 0

    def wait(self, what: str) -> None:
        frame = inspect.currentframe()
        while frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
            frame = frame.f_back
        place = "tests" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        self.waits[f"{place} {what}"] += 1

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        pinned = tensor.clone()
        self._pinned[pinned.untyped_storage().data_ptr()] = pinned  # kept, so that its address stays its own
        return pinned

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._pinned

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), func.overloadpacket.__name__
        leaves = tree_leaves((args, kwargs))
        ours = [x for x in leaves if isinstance(x, Tensor)]
        cpus = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, Tensor)]
        target = kwargs.get("device")
        to_us = target is not None and target.type in ("cuda", "meta")
        if not ours and not to_us:
            return func(*args, **kwargs)
        if name == "_to_copy" and target is not None:
            return self._copied(func, args, kwargs, to_us)
        if name == "copy_" and ours and cpus:
            self.wait("copy_ between devices")
            func(*tree_map_only(Tensor, _inner, args), **kwargs)
            return args[0]
        self._check_devices(name, args, ours, cpus)
        if name == "_fused_sgd_" and ours:
            for tensors in zip(*(lists for lists in args[:3] if lists), strict=True):
                strides = {tuple(s for s, n in zip(x.stride(), x.shape, strict=True) if n > 1) for x in tensors}
                if len(strides) > 1:
                    raise RuntimeError("params, grads and momentum_buffer_list must have same dtype, device, and layout")
        if to_us:
            kwargs["device"] = CPU
        if ours:
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)] if name in _INDEXING else []
            if name in _WAIT or masks:
                self.wait("index by a mask" if masks else name)
        if (ours or to_us) and name not in _NO_KERNEL and name != "_local_scalar_dense":
            self.kernels[name] += 1
        out = func(*tree_map_only(Tensor, _inner, args), **tree_map_only(Tensor, _inner, kwargs))
        if name == "_local_scalar_dense" or not (ours or to_us):
            return out
        out = tree_map_only(torch.Tensor, lambda x: x if isinstance(x, Tensor) else Tensor(x), out)
        if not ours:
            return out
        try:
            return return_and_correct_aliasing(func, args, kwargs, out)
        except RuntimeError:  # a view that has no storage to share
            return out

    def _copied(self, func, args, kwargs, to_us: bool):
        source = args[0]
        plain = _inner(source)
        if isinstance(source, Tensor) and not to_us:
            self.wait("copy to the host")
        elif not isinstance(source, Tensor) and to_us:
            self.copied += source.nbytes
            if not self.is_pinned(source):
                self.wait(f"copy of pageable memory {list(source.shape)}")
            elif not kwargs.get("non_blocking"):
                self.wait(f"blocking copy {list(source.shape)}")
        elif to_us:
            self.kernels["_to_copy"] += 1
        out = func(plain, **{**kwargs, "device": CPU})
        if out.untyped_storage().data_ptr() == plain.untyped_storage().data_ptr():
            out = out.clone()
        return Tensor(out) if to_us else out

    def _check_devices(self, name: str, args, ours, cpus) -> None:
        if not ours or not cpus:
            return
        if name in _INDEXING and isinstance(args[0], Tensor):
            if any(x.ndim for x in cpus):
                self.wait("index from the host")
            if name != "index" and not isinstance(args[2], Tensor) and args[2].ndim:
                raise RuntimeError(_MIXED)
        elif any(x.ndim for x in cpus) or name.startswith(("index_", "gather", "scatter", "embedding")):
            raise RuntimeError(f"{_MIXED} ({name})")


class Tensor(torch.Tensor):
    """A tensor of the fake device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device="meta"
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"{self.inner!r} on the fake device"

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value) -> None:
        torch.Tensor.data.__set__(self, value)
        self.inner = value.inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} on a tensor of the fake device, outside of `fake_cuda`")

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, **_):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def record_stream(self, stream) -> None:
        pass

    def __reduce_ex__(self, protocol):  # saved as a tensor of the CPU
        return self.inner.__reduce_ex__(protocol)


def _inner(x):
    return x.inner if isinstance(x, Tensor) else x


class _Arguments(TorchFunctionMode):
    """Names the device "meta" where PyTorch would start CUDA."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name in ("__get__", "device", "cpu"):
            return func(*args, **kwargs)
        if name in ("tensor", "as_tensor") and _named(kwargs.get("device")) == META:
            del kwargs["device"]
            return func(*args, **kwargs).to(META)
        if (generator := kwargs.get("generator")) is not None and "device" in kwargs:
            expected, found = (
                "cuda" if x else "cpu" for x in (_named(kwargs["device"]) == META, type(generator) is _Generator)
            )
            if expected != found:
                raise RuntimeError(f"Expected a '{expected}' device type for generator but found '{found}'")
        return func(*map(_named, args), **{key: _named(value) for key, value in kwargs.items()})


def _named(x):
    is_cuda = (isinstance(x, torch.device) and x.type == "cuda") or (isinstance(x, str) and x.split(":")[0] == "cuda")
    return META if is_cuda else x


class _Generator(torch.Generator):
    """torch.Generator, which can also be of the fake device. There it draws the CPU's numbers."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls) if _named(device) == META else _CPU_GENERATOR(device)

    def __init__(self, device) -> None: ...

    device = property(lambda self: CUDA)  # type: ignore[assignment]


_CPU_GENERATOR = torch.Generator


class _Stream:
    def __init__(self, *_, **__) -> None: ...
    def wait_stream(self, other) -> None: ...
    def synchronize(self) -> None: ...


class _Event(_Stream):
    def record(self, *_) -> None: ...
    def elapsed_time(self, other) -> float:
        return 0.0


@contextlib.contextmanager
def fake_cuda() -> Iterator[FakeCuda]:
    """PyTorch sees one GPU while the block runs."""
    with pytest.MonkeyPatch.context() as patch, FakeCuda() as device, _Arguments():
        values = {
            **{"is_available": True, "_lazy_init": None, "device_count": 1, "current_device": 0, "set_device": None},
            **{"reset_peak_memory_stats": None, "max_memory_allocated": 1 << 30, "is_bf16_supported": True},
            **{"current_stream": _Stream(), "get_device_name": "none", "empty_cache": None, "is_initialized": True},
            **{"get_device_capability": (9, 0)},
        }
        for name, value in values.items():
            patch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
        patch.setattr(torch.cuda, "synchronize", lambda *_: device.wait("synchronize"))
        patch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
        patch.setattr(torch.cuda, "Stream", _Stream)
        patch.setattr(torch.cuda, "Event", _Event)
        patch.setattr(torch.accelerator, "is_available", lambda *_, **__: True)
        patch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: torch.device("cuda"))
        patch.setattr(torch, "Generator", _Generator)
        patch.setattr(torch.amp.autocast_mode, "_cuda_available", True, raising=False)
        patch.setattr(torch.Tensor, "pin_memory", lambda self, *_: device.pin(self))
        patch.setattr(torch.Tensor, "is_pinned", lambda self, *_: device.is_pinned(self))
        yield device
