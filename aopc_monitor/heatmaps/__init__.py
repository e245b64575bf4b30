"""Heatmaps that leave the model alone: callables (model, images, target) -> (N, H, W).

The same of series (N, C, L), volumes (N, C, D, H, W) and tables (N, F): one relevance per location.

Example:
    >>> import torch
    >>> from aopc_monitor import heatmaps
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
    >>> heatmaps.get("lrp")(model, torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 8, 8])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aopc_monitor.heatmaps import table as _heatmaps
from aopc_monitor.heatmaps.adapters import from_callable as from_callable
from aopc_monitor.heatmaps.adapters import from_captum as from_captum
from aopc_monitor.heatmaps.adapters import from_zennit as from_zennit
from aopc_monitor.heatmaps.base import BackwardHeatmap as BackwardHeatmap
from aopc_monitor.heatmaps.base import Heatmap as Heatmap
from aopc_monitor.heatmaps.base import NetworkHeatmap as NetworkHeatmap
from aopc_monitor.heatmaps.check import check as check
from aopc_monitor.heatmaps.check_report import Report as Report
from aopc_monitor.heatmaps.engine.substitution import substitute as substitute
from aopc_monitor.heatmaps.rules import table as _rules
from aopc_monitor.heatmaps.rules.table import *  # noqa: F403  (the rows of the table of rules)
from aopc_monitor.heatmaps.table import *  # noqa: F403  (the rows of the table of heatmaps)

# A type checker takes what is imported as `name as name` or by a star; it cannot follow a computed
# list, and would then see nothing at all.
if not TYPE_CHECKING:
    __all__ = sorted({
        *("from_callable", "from_captum", "from_zennit"),
        *("BackwardHeatmap", "Heatmap", "NetworkHeatmap", "substitute"),
        *("Report", "check"),
        *_rules.__all__,
        *_heatmaps.__all__,
    })  # fmt: skip
