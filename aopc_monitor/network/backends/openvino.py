"""Forwards on a CPU through OpenVINO: a copy of the network is converted, once for its weights."""

from __future__ import annotations

import copy
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.asked import AskedNetwork, network_in
from aopc_monitor.network.backends.base import Answers, asked
from aopc_monitor.network.backends.openvino_conversion import requests_of
from aopc_monitor.network.backends.state import is_same, state_of
from aopc_monitor.network.reading import Reading
from aopc_monitor.network.snapshot import BACK_REFERENCES
from aopc_monitor.network.usual_chunks import suggested_chunk_size
from aopc_monitor.utilities.error_text import said_by

# A network in training is another one at each look; a conversion takes as long as many forwards.
MOST_CONVERSIONS = 4
# The batch that a network is converted with; another one would be taken for a fixed number: 1.
EXAMPLE_INPUTS = 2
# What no output is. Where memory is short, OpenVINO may write none, and raise nothing.
UNWRITTEN = -7.7e33


class OpenVINO:
    """A network that stays as it is, converted for the CPU.

    A converted network is used as long as the network is the one that was converted: by the values
    of all its tensors, and what else it holds.
    """

    needs: ClassVar[tuple[str, str] | None] = ("openvino", "fast-cpu")

    def check(self, inputs: Tensor, autocast: torch.dtype | None) -> None:
        """Raise ValueError where the inputs are on another device, or not in float32."""
        if inputs.device.type != "cpu":
            raise ValueError(
                f'backend="openvino" computes on a CPU, and the inputs are on {inputs.device}: '
                'give backend="compile" or "eager", or move the network and its inputs'
            )
        if autocast is not None:
            raise ValueError(
                f'autocast={autocast}: backend="openvino" computes in float32: give autocast=None'
            )
        if inputs.is_floating_point() and inputs.dtype != torch.float32:
            raise ValueError(
                f'backend="openvino" computes in float32, and the inputs are {inputs.dtype}: '
                'give float32 inputs and such a network, or backend="eager"'
            )

    def answers_of(self, model: nn.Module, inputs: Tensor) -> Answers:
        """The converted network, made now or before.

        Raises:
            RuntimeError: for a network that cannot be converted, or changes again and again.
        """
        if not inputs.is_floating_point() or (isinstance(model, AskedNetwork) and model.inputs):
            raise RuntimeError("only networks that are given floating-point inputs are converted")
        reading = Reading()
        if isinstance(model, AskedNetwork):
            # What is converted ends with the tensor that is explained; the rest is left to torch.
            reading = Reading(model.reading.output_fn, wanted=model.reading.wanted)
            model = model.read_by(replace(model.reading, output_fn=None))
        kept = _KEPT.setdefault(network_in(model), _Kept())
        converted = kept.converted_of(network_in(model), reading, inputs)
        call = partial(asked, model, call=converted)
        return Answers(call, converted.number, torch.contiguous_format, has_threads=True)


class _Kept:
    """What is kept for a network: what it was converted to for each kind of inputs."""

    def __init__(self) -> None:
        self.converted: dict[tuple[Any, ...], _Converted] = {}
        self.changes = 0

    def converted_of(self, network: nn.Module, reading: Reading, inputs: Tensor) -> _Converted:
        """What was made before, if the network is the same, or what is made now."""
        kind = (inputs.shape[1:], inputs.dtype, torch.get_num_threads(), reading.wanted)
        known = self.converted.get(kind)
        if known is not None and not is_same(known.state, state_of(network)):
            self.converted.clear()  # before there is another one
            self.changes += 1
        if self.changes >= MOST_CONVERSIONS:
            raise RuntimeError(
                f"the network has changed {self.changes} times since it was first converted, and "
                "this back end is for networks that stay as they are"
            )
        if kind not in self.converted or not self.converted[kind].reads_by(reading):
            self.converted[kind] = _Converted(network, reading, inputs)
        return self.converted[kind]


class _Converted:
    """A network as OpenVINO has compiled it; holds nothing of the network itself.

    Args:
        network: the network.
        reading: how its answers are read.
        inputs: (N, ...) of the kind that it will be given, any number of them.
    """

    numbers: ClassVar[Iterator[int]] = itertools.count(1)

    def __init__(self, network: nn.Module, reading: Reading, inputs: Tensor) -> None:
        function = reading.output_fn
        is_method = inspect.ismethod(function)
        self._function: Any = (weakref.WeakMethod if is_method else _reference)(function)
        # A copy: OpenVINO shares the memory of what it converts, and would answer with a mix of
        # weights once those of the network change.
        copied = _copy_of(network)
        self.state, self.number = state_of(copied), next(self.numbers)
        example = torch.cat([inputs, inputs])[:EXAMPLE_INPUTS].contiguous()
        # Weights count for how many images are usual.
        weights = sum(parameter.numel() for parameter in copied.parameters())
        usual = suggested_chunk_size(inputs, weights)
        self._requests = requests_of(AskedNetwork(copied, reading), example, usual)
        self._shape = self._requests[0].infer(example.numpy())[0].shape[1:]
        self._lock = threading.Lock()
        self._in_use: tuple[Tensor, ...] = ()

    def reads_by(self, reading: Reading) -> bool:
        """Whether answers are read in this way."""
        return bool(self._function() == reading.output_fn)

    def __call__(self, inputs: Tensor) -> Tensor:
        """The explained tensor, (M, classes) or what else is wanted, of inputs (M, ...).

        Raises:
            MemoryError: if memory did not suffice.
        """
        outputs = torch.full((len(inputs), *self._shape), UNWRITTEN)
        try:
            with self._lock:  # requests of somebody else's call would be refused
                self._ask(inputs.contiguous(), outputs)
        except RuntimeError as error:
            if any(word in str(error) for word in _MEMORY_WORDS):
                raise MemoryError(said_by(error)) from error
            raise
        if (outputs == UNWRITTEN).any():
            raise MemoryError(
                "OpenVINO returned without an answer, as it does where memory is short"
            )
        return outputs

    def _ask(self, inputs: Tensor, outputs: Tensor) -> None:
        """Write the answers, part by part."""
        import openvino

        # An interrupt does not stop what was begun, which goes on to need the memory.
        self._in_use = (inputs, outputs)
        count = min(len(self._requests), len(inputs))
        parts = zip(inputs.tensor_split(count), outputs.tensor_split(count), strict=True)
        started = []
        try:
            for request, (given, room) in zip(self._requests, parts, strict=False):
                request.set_output_tensor(0, openvino.Tensor(room.numpy(), shared_memory=True))
                if count == 1:
                    # On the calling thread: a process that was forked has none to begin it on.
                    request.infer(given.numpy(), share_inputs=True, share_outputs=True)
                else:
                    request.start_async(given.numpy(), share_inputs=True)
                    started.append(request)
        finally:
            _wait_for(started)
        self._in_use = ()


def _wait_for(requests: Sequence[Any]) -> None:
    """Wait for all of them, also where one of them fails, and raise what it raised."""
    with ExitStack() as stack:
        for request in reversed(requests):
            stack.callback(request.wait)


# What was converted is dropped with the network.
_KEPT = WeakIdKeyDictionary()
# How errors of OpenVINO say that memory did not suffice.
_MEMORY_WORDS = ("bad_alloc", "bad allocation", "allocate", "out of memory")


def _reference(function: Any) -> Callable[[], Any]:
    return (lambda: None) if function is None else weakref.ref(function)


def _copy_of(network: nn.Module) -> nn.Module:
    """A copy that shares its trainer, if it knows one, and nothing else."""
    held = (vars(m).get(name) for m in network.modules() for name in BACK_REFERENCES)
    return copy.deepcopy(network, {id(trainer): trainer for trainer in held if trainer is not None})
