"""What OpenVINO makes of a network."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from aopc_monitor.utilities.error_text import said_by, shortened

# Parts of a chunk are answered side by side, each by threads of its own: those that work on one
# together wait for each other at every layer. There are more parts than streams of them, so that
# none is left without work for long.
STREAMS, MOST_PARTS = 2, 4
# Each part reads all weights. Where one is used less often than this, as in large layers that are
# fully connected, that takes more than the waiting.
LEAST_USES = 128


def requests_of(network: nn.Module, example: Tensor, chunk_size: int) -> list[Any]:
    """What a network answers by: one request for each part of a chunk.

    It is the first way that succeeds of those in which a network can be converted.

    Args:
        network: the network, which may share its memory with what is made.
        example: inputs (N, ...) that it is traced with; afterwards there may be any number of them.
        chunk_size: how many inputs it will be given at once, as a rule.

    Raises:
        RuntimeError: for a network that cannot be converted.
    """
    errors = []
    for way in (_surely_traced, _exported, _traced):
        try:
            with _quiet(), torch.no_grad():
                return _requests(_converted(way(network, example), example), chunk_size)
        except Exception as error:  # of many classes, for whatever a network may do
            errors.append(f"{type(error).__name__}: {shortened(said_by(error), 120)}")
    raise RuntimeError(f"it does not convert: by torch.export {errors[1]}; by tracing {errors[2]}")


def _requests(model: Any, chunk_size: int) -> list[Any]:
    import openvino

    threads = torch.get_num_threads()
    parts = parts_of(chunk_size, uses_of_weights(model), threads)
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": min(STREAMS, parts),
        # Each process would begin with the first core, whatever its neighbours do: two of a thread
        # each took 1.8 times as long as without (openvino 2026.4.1).
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return [compiled.create_infer_request() for _ in range(parts)]


def parts_of(chunk_size: int, uses: float, threads: int) -> int:
    """In how many parts a chunk is answered.

    Args:
        chunk_size: how many inputs there are.
        uses: how often each weight is used for an input, in the mean.
        threads: of the back end.

    Example:
        >>> parts_of(16, 155, threads=2)  # resnet18
        4
        >>> parts_of(16, 12, threads=2)  # alexnet
        1
    """
    if threads < STREAMS:
        return 1
    parts = int(min(MOST_PARTS, chunk_size * uses // LEAST_USES))
    return max(1, parts - parts % STREAMS)


def uses_of_weights(model: Any) -> float:
    """How often each weight of OpenVINO's model is used for an input, in the mean."""
    uses = weights = 0
    for layer in model.get_ordered_ops():
        if layer.get_type_name() in ("Convolution", "GroupConvolution", "MatMul"):
            shape = layer.get_input_partial_shape(1)
            if shape.is_static:  # and not made of the inputs, as in attention
                numbers = math.prod(shape.to_shape())
                weights += numbers
                uses += numbers * _places(layer)
    return uses / weights if weights else math.inf


def _places(layer: Any) -> int:
    """In how many places of a map a layer's weights are used."""
    outputs = layer.get_output_partial_shape(0)
    is_last = layer.get_type_name() == "MatMul"  # where the channels are
    places = [*outputs][1:-1] if is_last else [*outputs][2:]
    return math.prod(place.get_length() for place in places if place.is_static)


def _surely_traced(network: nn.Module, example: Tensor) -> Any:
    """At a fifth of the time of an export; not for what torch warns about, such as a condition."""
    warnings.simplefilter("error", TracerWarning)
    # How answers are read is the same for any number of inputs.
    warnings.filterwarnings("ignore", category=TracerWarning, module=r"aopc_monitor\.")
    return _traced(network, example)


def _exported(network: nn.Module, example: Tensor) -> Any:
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    # Without strict, which goes through torch's compiler.
    shapes = ({0: torch.export.Dim("inputs", min=1)},)
    program = torch.export.export(network, (example,), dynamic_shapes=shapes, strict=False)
    return TorchFXPythonDecoder.from_exported_program(program)


def _traced(network: nn.Module, example: Tensor) -> Any:
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    return TorchScriptPythonDecoder(network, example_input=(example,), shared_memory=True)


def _converted(decoder: Any, example: Tensor) -> Any:
    """A model for any number of inputs.

    Not by `openvino.convert_model`, which reports its use over the internet unless forbidden to.
    """
    import openvino
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("pytorch")
    model = frontend.convert(frontend.load(decoder))
    (parameter,) = model.inputs
    node = parameter.get_node()
    node.set_partial_shape(openvino.PartialShape([-1, *example.shape[1:]]))
    node.set_element_type(openvino.Type.f32)
    model.validate_nodes_and_infer_types()
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the notes that conversions write into the log, and warnings of the tracer."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
