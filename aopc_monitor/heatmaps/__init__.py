"""Heatmaps that leave the model alone: callables (model, images, target) -> (N, H, W).

Example:
    >>> import torch
    >>> from aopc_monitor import heatmaps
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
    >>> heatmaps.get("lrp")(model, torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 8, 8])
"""

from __future__ import annotations

from aopc_monitor.heatmaps.adapters import from_callable, from_captum, from_zennit
from aopc_monitor.heatmaps.base import BackwardHeatmap, Heatmap, NetworkHeatmap
from aopc_monitor.heatmaps.check import Report, check
from aopc_monitor.heatmaps.deconvolution import Deconvolution, GuidedBackpropagation
from aopc_monitor.heatmaps.deeplift import DeepLIFT
from aopc_monitor.heatmaps.engine.substitution import substitute
from aopc_monitor.heatmaps.grad_cam import GradCAM
from aopc_monitor.heatmaps.gradients import GradientTimesInput, Sensitivity
from aopc_monitor.heatmaps.lrp import (
    LRP,
    LRPAlphaBeta,
    LRPEpsilon,
    attnlrp_rules,
    lrp_rules,
)
from aopc_monitor.heatmaps.lrp_composites import (
    AttnLRP,
    DeepTaylor,
    LRPEpsilonGammaBox,
    LRPEpsilonPlus,
)
from aopc_monitor.heatmaps.occlusion import Occlusion
from aopc_monitor.heatmaps.paths import IntegratedGradients, SmoothGrad
from aopc_monitor.heatmaps.random_order import RandomOrder
from aopc_monitor.heatmaps.rules.linear import (
    alpha_beta_rule,
    epsilon_rule,
    flat_rule,
    gamma_rule,
    w_square_rule,
    z_box_rule,
    z_plus_rule,
)
from aopc_monitor.heatmaps.rules.linear_operation import linear
from aopc_monitor.heatmaps.table import HEATMAPS, get, named_heatmaps, names, with_data_range

__all__ = [
    "HEATMAPS",
    "LRP",
    "AttnLRP",
    "BackwardHeatmap",
    "Deconvolution",
    "DeepLIFT",
    "DeepTaylor",
    "GradCAM",
    "GradientTimesInput",
    "GuidedBackpropagation",
    "Heatmap",
    "IntegratedGradients",
    "LRPAlphaBeta",
    "LRPEpsilon",
    "LRPEpsilonGammaBox",
    "LRPEpsilonPlus",
    "NetworkHeatmap",
    "Occlusion",
    "RandomOrder",
    "Report",
    "Sensitivity",
    "SmoothGrad",
    "alpha_beta_rule",
    "attnlrp_rules",
    "check",
    "epsilon_rule",
    "flat_rule",
    "from_callable",
    "from_captum",
    "from_zennit",
    "gamma_rule",
    "get",
    "linear",
    "lrp_rules",
    "named_heatmaps",
    "names",
    "substitute",
    "w_square_rule",
    "with_data_range",
    "z_box_rule",
    "z_plus_rule",
]
