"""The Callback class of whichever Lightning is installed: `lightning`, `pytorch_lightning` or both.

Their classes are unrelated to each other. A callback that derives from both is accepted by the
trainer and the command line of either.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec


def _callback_classes() -> tuple[type, ...]:
    found = []
    for package, module in (("lightning", "lightning.pytorch"), ("pytorch_lightning",) * 2):
        if find_spec(package) is not None:
            found.append(import_module(module).Callback)
    if not found:
        raise ModuleNotFoundError(
            "AOPCMonitor needs Lightning: pip install pytorch-lightning (or lightning). The metric "
            "AOPC and the heatmaps work without it"
        )
    return tuple(found)


Callback = type("Callback", _callback_classes(), {"__doc__": "Base of AOPCMonitor."})
