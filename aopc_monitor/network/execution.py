"""How forwards are carried out: what changes their cost, and of the values only the rounding."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import InitVar, dataclass, fields, replace
from functools import cache

import torch
from torch import Tensor, nn

from aopc_monitor.network.backends.checked import Checked
from aopc_monitor.network.backends.planned import Planned, planned
from aopc_monitor.network.backends.table import AUTO, BACKENDS, check_backend
from aopc_monitor.network.layout import suits_channels_last
from aopc_monitor.network.scores import ScoreFunction, checked_scores, is_named
from aopc_monitor.network.threads import on_one_thread
from aopc_monitor.utilities.checks import check_positive

AUTOCAST_DTYPES = (torch.bfloat16, torch.float16)
# Numbers in outputs that are kept until all are there.
MOST_WAITING = 2**20


@dataclass(frozen=True)
class Execution:
    """Choices that make forwards cheaper.

    Attributes:
        chunk_size: images per forward. If not given, 64, on a CPU 16 of 224 x 224 and 128 of small
            ones under many weights, or more or fewer where that turns out to be faster while
            measuring; fewer where memory is short.
        channels_last: whether images are laid out with the channels last in memory, which is
            faster for convolutions and pooling on a CPU. If not given: where the images come so;
            else on a CPU, for networks with convolutions, and on other devices with half precision;
            and only if the network takes such images and gives the same outputs. The network itself
            is never converted.
        autocast: `torch.bfloat16` or `torch.float16`: the precision of forwards that only give
            scores, the clean one included, so that their difference is one of like with like.
            Heatmaps are not affected.
        backend: what carries these forwards out. "eager": torch. "fused": torch on a CPU, where a
            convolution, the BatchNorm and the activation after it become one call; it costs little
            to prepare, so that it suits networks that change, too. "incremental": the same, and of
            convolutional networks only what a step changes is computed, where the replacement is
            the same for all steps. "compile": `torch.compile`; the call is compiled, not the
            module, which stays as it is. "openvino": OpenVINO on a CPU,
            for networks that stay as they are: a copy is converted, once, which takes seconds, and
            again only if the network has changed. Outputs are held against the network's own at the
            first chunk; where they differ by more than rounding, or anything fails, a warning says
            so, once, and the network is called as it is. "auto": "fused" where that can be used;
            "incremental" for full curves of such a replacement, where it is faster; and OpenVINO,
            if it is installed and can be used, once the forwards to come are worth its conversion;
            the log of `aopc_monitor` says so.

    Raises:
        ValueError: for a chunk size below 1, another precision, or an unknown back end.
        ModuleNotFoundError: for a back end that is not installed.
        TypeError: for `compiled`, which is a back end.

    Example:
        >>> Execution(chunk_size=16, backend="compile").backend
        'compile'
    """

    chunk_size: int | None = None
    channels_last: bool | None = None
    autocast: torch.dtype | None = None
    backend: str = "eager"
    compiled: InitVar[object] = None

    def __post_init__(self, compiled: object) -> None:
        if compiled is not None:
            refuse_moved("Execution", ["compiled"])
        check_backend(self.backend)
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


def refuse_moved(caller: str, keywords: Iterable[str]) -> None:
    """Raise TypeError if a keyword is one of `Execution`, and tell that it goes there.

    Example:
        >>> refuse_moved("AOPC", ["chunk_size"])
        Traceback (most recent call last):
        TypeError: AOPC() takes no chunk_size: give execution=Execution(chunk_size=...)
    """
    for name in [field.name for field in fields(Execution)] + ["compiled"]:
        if name in keywords:
            given = 'backend="compile"' if name == "compiled" else f"{name}=..."
            where = f"execution=Execution({given})" if caller != "Execution" else given
            raise TypeError(f"{caller}() takes no {name}: give {where}")


@dataclass(frozen=True)
class Forward:
    """The network as it is called for scores.

    Attributes:
        model: the network.
        execution: the choices it is called under.
        layout: how images are laid out for the network itself.
        answers: the network as a back end answers for it.
    """

    model: nn.Module
    execution: Execution
    layout: torch.memory_format
    answers: Checked | Planned

    @classmethod
    def of(
        cls, model: nn.Module, images: Tensor, execution: Execution, to_come: int = 0
    ) -> Forward:
        """Choose the layout for these images (N, C, H, W), inside `untouched(model)`.

        Args:
            model: the network as it is asked.
            images: the batch.
            execution: how forwards are carried out.
            to_come: how many images will go through the network, if somebody knows.

        Raises:
            ValueError: if the images' device, or images in double precision, have no such autocast
                or back end.
        """
        autocast, backend = execution.autocast, BACKENDS.get(execution.backend)
        if autocast is not None:
            if images.dtype == torch.float64:
                raise ValueError(
                    f"autocast={autocast} has no effect on float64 images: give float32 "
                    "images and such a network, or None"
                )
            _check_autocast(images.device.type, autocast)
        if backend is not None:
            backend.check(images, autocast)
        wanted = execution.channels_last
        if wanted is None:
            is_half = autocast is not None or images.dtype in AUTOCAST_DTYPES
            wanted = suits_channels_last(model, images, is_half)
        if wanted and images.ndim != 4:
            raise ValueError(
                f"channels_last=True is for images (N, C, H, W), and these inputs have shape "
                f"{tuple(images.shape)}: leave it out"
            )
        layout = torch.channels_last if wanted else torch.contiguous_format
        return cls(model, execution, layout, _answers(model, images, execution, to_come))

    def through(self, model: nn.Module, images: Tensor) -> Forward:
        """The same with the network asked otherwise, for images of the same kind."""
        if model is self.model:
            return self
        answers = _answers(model, images, self.execution, getattr(self.answers, "to_come", 0))
        return replace(self, model=model, answers=answers)

    @property
    def memory_format(self) -> torch.memory_format:
        """How images are laid out, for whatever is called."""
        return self.answers.layout or self.layout

    def __call__(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Outputs (M, classes) of images (M, C, H, W).

        Args:
            images: the images.
            rows: (M,) which image of the batch each one is of, where further inputs depend on it.
        """
        images = images.contiguous(memory_format=self.memory_format)
        with self._autocast(images.device.type):
            return self.answers(images, rows)

    def new_images(self, count: int, like: Tensor) -> Tensor:
        """Room for images (count, C, H, W) of the kind of `like`, laid out for the network."""
        return torch.empty(
            (count, *like.shape[1:]),
            dtype=like.dtype,
            device=like.device,
            memory_format=self.memory_format,
        )

    def in_use(self) -> AbstractContextManager[object]:
        """For the time in which images of a chunk are made, asked for, and their scores read."""
        return on_one_thread() if self.answers.has_threads else nullcontext()

    def _autocast(self, device_type: str) -> AbstractContextManager[object]:
        if self.execution.autocast is None:
            return nullcontext()
        return torch.autocast(device_type, dtype=self.execution.autocast)


def _answers(
    model: nn.Module, images: Tensor, execution: Execution, to_come: int
) -> Checked | Planned:
    if execution.backend == AUTO:
        return planned(model, images, execution.autocast, to_come)
    return Checked(execution.backend, model, execution.autocast).prepare(images)


@dataclass(frozen=True)
class TargetScore:
    """f(x): the score of the explained classes, of whatever is made of a batch of clean images.

    Attributes:
        forward: the network, as it is called for scores.
        function: f on (outputs (M, classes), target (M,)).
        target: (N,) the explained classes of the clean images.
        num_classes: of the outputs; 0 if unknown.
    """

    forward: Forward
    function: ScoreFunction
    target: Tensor
    num_classes: int = 0

    def __call__(self, images: Tensor, image: Tensor) -> Tensor:
        """(M,) scores of images (M, C, H, W), made of the clean ones with these indices (M,)."""
        return self.of(self.forward(images, image), image)

    def of(self, outputs: Tensor, image: Tensor) -> Tensor:
        """(M,) scores of outputs (M, classes), for images made of the clean ones (M,)."""
        return checked_scores(self.function, outputs, self.target[image])

    def waits(self, count: int) -> bool:
        """Whether scores may be found once all outputs are there, for so many images.

        A user's own function is given the outputs of one forward.
        """
        return is_named(self.function) and 0 < count * self.num_classes <= MOST_WAITING


class Room:
    """Room for the images of a chunk, used again for the next one.

    New memory for each would cost a CPU as much as the perturbation itself.

    Args:
        like: images (N, C, H, W) of their kind.
        forward: what will be asked for them; they are contiguous if not given.
    """

    def __init__(self, like: Tensor, forward: Forward | None = None) -> None:
        self._like, self._forward = like, forward
        self._images = self._new_images(0)

    def of(self, count: int) -> Tensor:
        """(count, C, H, W), with anything in it."""
        # Smaller where memory was short, or a smaller chunk is faster.
        if not count <= len(self._images) <= 2 * count:
            self._images = self._new_images(0)  # before there is room for both
            self._images = self._new_images(count)
        return self._images[:count]

    def _new_images(self, count: int) -> Tensor:
        if self._forward is None:
            return self._like.new_empty(count, *self._like.shape[1:])
        return self._forward.new_images(count, self._like)


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
