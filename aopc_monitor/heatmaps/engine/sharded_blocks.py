"""What FSDP2 does in the middle of a forward, as the engine sees it: hooks, and an identity.

Before a block runs, an autograd function hands its inputs on as they are, to take the block's
weights away once the backward pass is through. It has to stay on the graph, so nothing can stand in
for what it returns, as for other custom functions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.network.sharded import brings_weights

_HANDS_ON = "RegisterPostBackwardFunctionBackward"


def brings_weights_back(call: Call) -> bool:
    """Whether a call puts a hook on a tensor by which a block's weights come for its backward."""
    return call.name == "register_hook" and brings_weights(call.argument(1, "hook"))


def call_into_block(result: Tensor, signals: Iterable[Tensor]) -> Call | None:
    """How a signal came into a block, as a call that copies it; None if it came in another way.

    Args:
        result: a signal that no call returned.
        signals: those that came before.
    """
    node: Any = result.grad_fn
    if node is None or node.name() != _HANDS_ON:
        return None
    origin = node.next_functions[result.output_nr]
    source = next((s for s in signals if (s.grad_fn, s.output_nr) == origin), None)
    if source is None:
        return None

    def clone(values: Tensor) -> Tensor:
        return result if values is source else values.clone()

    return Call(clone, (source,), {})
