"""How forwards are carried out: what changes their cost, and of the values only the rounding."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.chunks import is_out_of_memory
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.scores import class_outputs
from aopc_monitor.utilities.checks import check_positive

AUTOCAST_DTYPES = (torch.bfloat16, torch.float16)
# What another order of summation may change in float32, amply.
LAYOUT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Execution:
    """Choices that make forwards cheaper.

    Attributes:
        chunk_size: images per forward. If not given, 64, on a CPU 16 of 224 x 224, or more or fewer
            where that turns out to be faster while measuring; fewer where memory is short.
        channels_last: whether images are laid out with the channels last in memory, which is
            faster for convolutions and pooling on a CPU. If not given: where the images come so;
            else on a CPU, for networks with convolutions, and on other devices with half precision;
            and only if the network takes such images and gives the same outputs. The network itself
            is never converted.
        autocast: `torch.bfloat16` or `torch.float16`: the precision of forwards that only give
            scores, the clean one included, so that their difference is one of like with like.
            Heatmaps are not affected.
        compiled: whether these forwards go through `torch.compile`. The call is compiled, not the
            module, which stays as it is. Where that fails, a warning says so, once, and the
            network is called as it is.

    Raises:
        ValueError: for a chunk size below 1 or another precision.
    """

    chunk_size: int | None = None
    channels_last: bool | None = None
    autocast: torch.dtype | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.chunk_size is not None:
            check_positive("chunk_size", self.chunk_size)
        if self.autocast is not None and self.autocast not in AUTOCAST_DTYPES:
            raise ValueError(
                f"autocast={self.autocast!r} is no precision to cast to: give torch.bfloat16 or "
                "torch.float16, or None"
            )


def refuse_unknown(caller: str, keywords: Iterable[str]) -> None:
    """Raise TypeError if there are keywords, and tell where those of `Execution` go."""
    for name in keywords:
        refuse_moved(caller, [name])
        raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}")


def refuse_moved(caller: str, keywords: Iterable[str]) -> None:
    """Raise TypeError if a keyword is one of `Execution`, and tell that it goes there.

    Example:
        >>> refuse_moved("AOPC", ["chunk_size"])
        Traceback (most recent call last):
        TypeError: AOPC() takes no chunk_size: give execution=Execution(chunk_size=...)
    """
    for field in fields(Execution):
        if field.name in keywords:
            raise TypeError(
                f"{caller}() takes no {field.name}: give execution=Execution({field.name}=...)"
            )


@dataclass(frozen=True)
class Forward:
    """The network as it is called for scores.

    Attributes:
        model: the network.
        execution: the choices it is called under.
        memory_format: how images are laid out for it.
    """

    model: nn.Module
    execution: Execution
    memory_format: torch.memory_format

    @classmethod
    def of(cls, model: nn.Module, images: Tensor, execution: Execution) -> Forward:
        """Choose the layout for these images (N, C, H, W), inside `untouched(model)`.

        Raises:
            ValueError: if the images' device, or images in double precision, have no such autocast.
        """
        if execution.autocast is not None:
            if images.dtype == torch.float64:
                raise ValueError(
                    f"autocast={execution.autocast} has no effect on float64 images: give float32 "
                    "images and such a network, or None"
                )
            _check_autocast(images.device.type, execution.autocast)
        wanted = execution.channels_last
        if wanted is None:
            wanted = _has_channels_last(images) or (
                _may_pay(model, images, execution) and _takes_channels_last(model, images)
            )
        layout = torch.channels_last if wanted else torch.contiguous_format
        return cls(model, execution, layout)

    def __call__(self, images: Tensor) -> Tensor:
        """Outputs (M, classes) of images (M, C, H, W)."""
        images = images.contiguous(memory_format=self.memory_format)
        with self._autocast(images.device.type):
            answer = self._compiled(images) if self.execution.compiled else self.model(images)
        return class_outputs(answer, len(images))

    def new_images(self, count: int, like: Tensor) -> Tensor:
        """Room for images (count, C, H, W) of the kind of `like`, laid out for the network."""
        return torch.empty(
            (count, *like.shape[1:]),
            dtype=like.dtype,
            device=like.device,
            memory_format=self.memory_format,
        )

    def _autocast(self, device_type: str) -> AbstractContextManager[object]:
        if self.execution.autocast is None:
            return nullcontext()
        return torch.autocast(device_type, dtype=self.execution.autocast)

    def _compiled(self, images: Tensor) -> Any:
        if self.model in _NOT_COMPILED:
            return self.model(images)
        try:
            if _has_compiled_parts(self.model):
                raise RuntimeError("the network is compiled already, for its training")
            # Where a model is only looked at, everything else runs eagerly: see `untouched`.
            with torch.compiler.set_stance("default"):
                return _compiled_call(self.model)(self.model, images)
        except Exception as error:  # the compiler has many of its own
            if is_out_of_memory(error):  # a smaller chunk may do
                raise
            _NOT_COMPILED[self.model] = True
            warnings.warn(
                "compiled=True: the network could not be compiled and is called as it is. "
                f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
                stacklevel=2,
            )
            return self.model(images)


# What was found out about networks, as long as they exist; these are facts, not settings.
_NOT_COMPILED = WeakIdKeyDictionary()
_COMPILED = WeakIdKeyDictionary()
_LAYOUTS = WeakIdKeyDictionary()


def _compiled_call(model: nn.Module) -> Any:
    """The call of a network that comes back is not compiled again."""
    if model not in _COMPILED:
        # Code of its own for each network: torch compiles the same code only so many times.
        code = _call.__code__.replace(co_name=f"call_{id(model)}")
        _COMPILED[model] = torch.compile(FunctionType(code, _call.__globals__))
    return _COMPILED[model]


def _call(model: nn.Module, images: Tensor) -> Any:
    return model(images)


def _has_compiled_parts(model: nn.Module) -> bool:
    # Compiling them once more, in eval mode, would use up what torch allows the training.
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


@cache
def _check_autocast(device_type: str, dtype: torch.dtype) -> None:
    number = torch.ones(1, 1, device=device_type, dtype=torch.float32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns, and goes on without
            with torch.autocast(device_type, dtype=dtype):
                if (number @ number).dtype != dtype:
                    raise RuntimeError("torch leaves the precision as it is")
    except (RuntimeError, UserWarning) as error:
        raise ValueError(
            f"autocast={dtype}: this device ({device_type}) does not compute in it. Give "
            f"another one, or None. {error}"
        ) from error


def _has_channels_last(images: Tensor) -> bool:
    """Whether whoever gave the images has chosen the layout."""
    return images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()


def _may_pay(model: nn.Module, images: Tensor, execution: Execution) -> bool:
    """Whether the layout can make forwards cheaper: of convolutions, which have 4-d weights."""
    is_half = execution.autocast is not None or images.dtype in AUTOCAST_DTYPES
    if images.device.type != "cpu" and not is_half:
        return False
    return any(not is_lazy(p) and p.ndim == 4 for p in model.parameters())


def _takes_channels_last(model: nn.Module, images: Tensor) -> bool:
    """Whether the network takes the layout, and its outputs do not depend on it.

    A network that counts on the usual layout, by `view` for instance, raises. With other weights it
    is asked again: at the start of a training outputs may say little.
    """
    weights = sum(0 if p.is_inference() else p._version for p in model.parameters())
    known_weights, known = _LAYOUTS.get(model, (None, {}))
    if known_weights != weights:
        known = {}
        _LAYOUTS[model] = (weights, known)
    kind = (images.shape[1:], images.dtype, images.device)
    if kind not in known:
        known[kind] = _answers_alike(model, images[:1])
    return bool(known[kind])


def _answers_alike(model: nn.Module, image: Tensor) -> bool:
    few = torch.cat([image, image.flip(-1)])  # two that differ
    laid_out = few.to(memory_format=torch.channels_last)
    try:
        with torch.no_grad():
            with untouched(model):  # each time from the same random numbers
                usual = class_outputs(model(few.clone()), len(few))
            with untouched(model):
                other = class_outputs(model(laid_out.clone()), len(few))
    except Exception:  # one that has nothing to do with the layout comes again where it counts
        return False
    # Of what the images have to do with the outputs: outputs that are all alike would tell nothing.
    said = (usual[0] - usual[1]).abs().max()
    tolerance = max(LAYOUT_TOLERANCE, 8 * torch.finfo(usual.dtype).eps)
    return bool((said > 0) & ((other - usual).abs().max() <= tolerance * said))
