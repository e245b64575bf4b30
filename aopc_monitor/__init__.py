"""Watch, without labels, whether a network under training rests on located evidence.

`AOPC` is the metric, `AOPCMonitor` the Lightning callback, `area_over_perturbation_curve` the
function beneath both. `heatmaps` holds what they order regions by, `perturbation` what regions
become, `metrics` what else scores a heatmap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aopc_monitor import heatmaps, metrics, perturbation
from aopc_monitor.metrics.aopc import AOPC
from aopc_monitor.metrics.aopc_estimate import AOPCEstimate, difference
from aopc_monitor.metrics.estimate import estimate_aopc
from aopc_monitor.metrics.fixed_reference import FixedReference
from aopc_monitor.metrics.functional.aopc import area_over_perturbation_curve
from aopc_monitor.metrics.functional.aopc_result import AOPCResult
from aopc_monitor.metrics.relevance_gain import SymmetricRelevanceGain
from aopc_monitor.network.execution import Execution
from aopc_monitor.perturbation.data_range import normalized_data_range
from aopc_monitor.utilities.moved import MOVED, name_moved_modules
from aopc_monitor.utilities.statistics import MeanAndError

if TYPE_CHECKING:
    from aopc_monitor.monitor import AOPCMonitor as AOPCMonitor

__version__ = "0.2.0"

# Without AOPCMonitor, so that `from aopc_monitor import *` works where Lightning is missing.
__all__ = [
    "AOPC",
    "AOPCEstimate",
    "AOPCResult",
    "Execution",
    "FixedReference",
    "MeanAndError",
    "SymmetricRelevanceGain",
    "area_over_perturbation_curve",
    "difference",
    "estimate_aopc",
    "heatmaps",
    "metrics",
    "normalized_data_range",
    "perturbation",
]

name_moved_modules()


def __getattr__(name: str) -> Any:
    # Lightning takes seconds to import, and the metric works without it.
    if name == "AOPCMonitor":
        from aopc_monitor.monitor import AOPCMonitor

        return AOPCMonitor
    moved = f": it is now {__name__}.{MOVED[name]}" if name in MOVED else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{moved}")
