"""How forwards are carried out: what changes their cost, and of the values only the rounding."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.asked import AskedNetwork, network_in
from aopc_monitor.network.chunks import is_out_of_memory
from aopc_monitor.network.layout import suits_channels_last
from aopc_monitor.network.outputs import class_outputs
from aopc_monitor.network.scores import ScoreFunction, checked_scores
from aopc_monitor.utilities.checks import check_positive
from aopc_monitor.utilities.error_text import said_by, shortened

AUTOCAST_DTYPES = (torch.bfloat16, torch.float16)


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


def checked_execution(execution: Execution | None) -> Execution:
    """The given choices, or the usual ones.

    Raises:
        TypeError: if it is something else, such as a dict of them.
    """
    if execution is None:
        return Execution()
    if not isinstance(execution, Execution):
        raise TypeError(f"execution={execution!r} is no Execution: give Execution(chunk_size=...)")
    return execution


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
            is_half = execution.autocast is not None or images.dtype in AUTOCAST_DTYPES
            wanted = suits_channels_last(model, images, is_half)
        if wanted and images.ndim != 4:
            raise ValueError(
                f"channels_last=True is for images (N, C, H, W), and these inputs have shape "
                f"{tuple(images.shape)}: leave it out"
            )
        layout = torch.channels_last if wanted else torch.contiguous_format
        return cls(model, execution, layout)

    def __call__(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Outputs (M, classes) of images (M, C, H, W).

        Args:
            images: the images.
            rows: (M,) which image of the batch each one is of, where further inputs depend on it.
        """
        images = images.contiguous(memory_format=self.memory_format)
        call = self._compiled if self.execution.compiled else network_in(self.model)
        with self._autocast(images.device.type):
            if isinstance(self.model, AskedNetwork):
                return self.model(images, rows, call)
            return class_outputs(call(images), len(images))

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

    def _compiled(self, *inputs: Any, **named: Any) -> Any:
        model = network_in(self.model)
        if model in _NOT_COMPILED:
            return model(*inputs, **named)
        try:
            if _has_compiled_parts(model):
                raise RuntimeError("the network is compiled already, for its training")
            # Where a model is only looked at, everything else runs eagerly: see `untouched`.
            with torch.compiler.set_stance("default"):
                return _compiled_call(model)(model, *inputs, **named)
        except Exception as error:  # the compiler has many of its own
            if is_out_of_memory(error):  # a smaller chunk may do
                raise
            _NOT_COMPILED[model] = True
            warnings.warn(
                "compiled=True: the network could not be compiled and is called as it is. "
                f"{type(error).__name__}: {shortened(said_by(error))}",
                stacklevel=2,
            )
            return model(*inputs, **named)


@dataclass(frozen=True)
class TargetScore:
    """f(x): the score of the explained classes, of whatever is made of a batch of clean images.

    Attributes:
        forward: the network, as it is called for scores.
        function: f on (outputs (M, classes), target (M,)).
        target: (N,) the explained classes of the clean images.
    """

    forward: Forward
    function: ScoreFunction
    target: Tensor

    def __call__(self, images: Tensor, image: Tensor) -> Tensor:
        """(M,) scores of images (M, C, H, W), made of the clean ones with these indices (M,)."""
        return checked_scores(self.function, self.forward(images, image), self.target[image])


class Room:
    """Room for the images of a chunk, used again for the next one.

    New memory for each would cost a CPU as much as the perturbation itself.

    Args:
        like: images (N, C, H, W) of their kind.
        new_images: from a number and images of their kind to room for so many.
    """

    def __init__(self, like: Tensor, new_images: Callable[[int, Tensor], Tensor]) -> None:
        self._like, self._new_images = like, new_images
        self._images = new_images(0, like)

    def of(self, count: int) -> Tensor:
        """(count, C, H, W), with anything in it."""
        # Smaller where memory was short, or a smaller chunk is faster.
        if not count <= len(self._images) <= 2 * count:
            self._images = self._new_images(0, self._like)  # before there is room for both
            self._images = self._new_images(count, self._like)
        return self._images[:count]


# What was found out about networks, as long as they exist; these are facts, not settings.
_NOT_COMPILED = WeakIdKeyDictionary()
_COMPILED = WeakIdKeyDictionary()


def _compiled_call(model: nn.Module) -> Any:
    """The call of a network that comes back is not compiled again."""
    if model not in _COMPILED:
        # Code of its own for each network: torch compiles the same code only so many times.
        code = _call.__code__.replace(co_name=f"call_{id(model)}")
        _COMPILED[model] = torch.compile(FunctionType(code, _call.__globals__))
    return _COMPILED[model]


def _call(model: nn.Module, *inputs: Any, **named: Any) -> Any:
    return model(*inputs, **named)


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
