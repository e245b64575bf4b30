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

# FSDP2's identity, and how tensor parallelism makes a tensor a distributed one, moves its parts and
# makes it a plain one again: its values stay what they are.
_HANDS_ON = frozenset({
    "RegisterPostBackwardFunctionBackward", "_FromTorchTensorBackward", "RedistributeBackward",
    "_ToTorchTensorBackward",
})  # fmt: skip


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
    number = result.output_nr
    if node is None or node.name() not in _HANDS_ON:
        return None
    while node is not None and node.name() in _HANDS_ON:
        node, number = node.next_functions[number]
    source = next((s for s in signals if (s.grad_fn, s.output_nr) == (node, number)), None)
    if source is None:
        return None

    def clone(values: Tensor) -> Tensor:
        return result if values is source else values.clone()

    return Call(clone, (source,), {})
