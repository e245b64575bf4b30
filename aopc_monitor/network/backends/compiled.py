"""Forwards through `torch.compile`."""

from __future__ import annotations

from functools import partial
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.asked import network_in
from aopc_monitor.network.backends.base import Answers, asked


class Compiled:
    """The call of the network is compiled, never the module, which stays as it is."""

    needs: ClassVar[tuple[str, str] | None] = None

    def check(self, inputs: Tensor, autocast: torch.dtype | None) -> None:
        """Nothing: it has what torch has."""

    def answers_of(self, model: nn.Module, inputs: Tensor) -> Answers:
        """The compiled call; of the weights as they are whenever it is called.

        Raises:
            RuntimeError: where a training has compiled parts of the network.
        """
        network = network_in(model)
        if _has_compiled_parts(network):
            raise RuntimeError("the network is compiled already, for its training")
        return Answers(partial(asked, model, call=partial(_called, network)))


# A network that comes back is not compiled again.
_COMPILED = WeakIdKeyDictionary()


def _called(network: nn.Module, *inputs: Any, **named: Any) -> Any:
    # Where a model is only looked at, everything else runs eagerly: see `untouched`.
    with torch.compiler.set_stance("default"):
        return _compiled_call(network)(network, *inputs, **named)


def _compiled_call(network: nn.Module) -> Any:
    if network not in _COMPILED:
        # Code of its own for each network: torch compiles the same code only so many times.
        code = _call.__code__.replace(co_name=f"call_{id(network)}")
        _COMPILED[network] = torch.compile(FunctionType(code, _call.__globals__))
    return _COMPILED[network]


def _call(network: nn.Module, *inputs: Any, **named: Any) -> Any:
    return network(*inputs, **named)


def _has_compiled_parts(network: nn.Module) -> bool:
    # Compiling them once more, in eval mode, would use up what torch allows the training.
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in network.modules()
    )
