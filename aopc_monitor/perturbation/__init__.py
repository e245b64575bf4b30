"""What is perturbed: regions and their order, what they become, and under which choices.

Example:
    >>> from aopc_monitor.perturbation import NoisyLinear, observed_data_range
    >>> NoisyLinear(noise=0.02)
    NoisyLinear(noise=0.02, fresh_each_step=True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aopc_monitor.perturbation.data_range import DataRange as DataRange
from aopc_monitor.perturbation.data_range import normalized_data_range as normalized_data_range
from aopc_monitor.perturbation.data_range import observed_data_range as observed_data_range
from aopc_monitor.perturbation.input_kinds import INPUT_KINDS as INPUT_KINDS
from aopc_monitor.perturbation.input_kinds import InputKind as InputKind
from aopc_monitor.perturbation.input_kinds import kind_of as kind_of
from aopc_monitor.perturbation.noisy_linear import Imputation as Imputation
from aopc_monitor.perturbation.noisy_linear import NoisyLinear as NoisyLinear
from aopc_monitor.perturbation.protocol import PerturbationProtocol as PerturbationProtocol
from aopc_monitor.perturbation.protocol_choices import (
    SUGGESTED_SAMPLED_STEPS as SUGGESTED_SAMPLED_STEPS,
)
from aopc_monitor.perturbation.protocol_choices import ProtocolChoices as ProtocolChoices
from aopc_monitor.perturbation.region_map import GivenRegions as GivenRegions
from aopc_monitor.perturbation.region_map import RegionMap as RegionMap
from aopc_monitor.perturbation.regions import Grid as Grid
from aopc_monitor.perturbation.regions import Order as Order
from aopc_monitor.perturbation.regions import Regions as Regions
from aopc_monitor.perturbation.regions import perturbation_order as perturbation_order
from aopc_monitor.perturbation.regions import suggested_region_size as suggested_region_size
from aopc_monitor.perturbation.replacements import *  # noqa: F403  (the rows of its table)
from aopc_monitor.perturbation.replacements import REPLACEMENTS as REPLACEMENTS
from aopc_monitor.perturbation.replacements import Replacement as Replacement
from aopc_monitor.perturbation.replacements import get_replacement as get_replacement
from aopc_monitor.perturbation.spans import Spans as Spans
from aopc_monitor.perturbation.steps import Strata as Strata
from aopc_monitor.utilities.randomness import content_of as content_of
from aopc_monitor.utilities.randomness import generator_for as generator_for

# A type checker cannot follow a computed list, and takes what is imported as `name as name`.
if not TYPE_CHECKING:
    __all__ = sorted({
        *("DataRange", "normalized_data_range", "observed_data_range"),
        *("INPUT_KINDS", "InputKind", "kind_of"),
        *("GivenRegions", "Grid", "Order", "RegionMap", "Regions", "Spans", "Strata"),
        *("perturbation_order", "suggested_region_size", "get_replacement"),
        *("Imputation", "REPLACEMENTS", "Replacement", "content_of", "generator_for"),
        *("PerturbationProtocol", "ProtocolChoices", "SUGGESTED_SAMPLED_STEPS"),
        *(replacement.__name__ for replacement in REPLACEMENTS.values()),
    })  # fmt: skip
