"""Values that are read at places which the network chose itself: spatial transformers and kin.

A place is to a value what a gate is to a signal: relevance goes to the values that were read, in
proportion to the weights of the interpolation, and none to the places.
"""

from __future__ import annotations

from typing import Any

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules, Rule
from aopc_monitor.heatmaps.engine.calls import Call, tensors_in


def sampling(call: Call, mode: BackwardRules) -> Any:
    """`grid_sample`, `roi_align` and kin: their second argument says where."""
    places: Any = call.argument(1, "grid", call.kwargs.get("rois"))
    if not mode.is_signal(places):
        return call.run()
    if not mode.is_signal(call.first):
        return without_rule(f"{call.name} of constants, at places made of the images", call, mode)
    held = places.detach()
    return call.with_tensors(lambda value: held if value is places else value).run()


def without_rule(name: str, call: Call, mode: BackwardRules) -> Any:
    """Run a call whose rule does not cover its arguments, and name it if a signal comes back."""
    result = call.run()
    mode.note_without_rule(name, tensors_in(result))
    return result


POSITIONS: dict[str, Rule] = dict.fromkeys(
    ("grid_sample", "grid_sampler", "ps_roi_align", "ps_roi_pool", "roi_align", "roi_pool"),
    sampling,
)
