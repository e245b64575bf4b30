"""A layout for TensorBoard: AOPC and accuracy in one chart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from aopc_monitor.monitor.loggers import key
from aopc_monitor.monitor.messages import warn
from aopc_monitor.monitor.pictures import is_a
from aopc_monitor.monitor.processes import text_of

Layout = dict[str, dict[str, list[Any]]]


def layout_of(prefix: str, probes: Sequence[str], heatmaps: Sequence[str]) -> Layout:
    """Charts by category and name, as `SummaryWriter.add_custom_scalars` takes them.

    Args:
        prefix: first part of the log keys, which names the category.
        probes: their names, "" for the only one; a chart for each.
        heatmaps: their names.

    Returns:
        Charts of regular expressions, which TensorBoard matches with the beginning of each tag. The
        last one of a chart stands for any tag of an accuracy that the monitor did not log.

    Example:
        >>> charts = layout_of("aopc", [""], ["lrp"])["aopc"]
        >>> charts["AOPC and accuracy"][1][:2]
        ['aopc/lrp$', 'aopc/random$']
    """
    kinds = (*heatmaps, "random", "confidence", "accuracy")
    of_others = rf"(?!{re.escape(prefix)}/).*[Aa]cc"
    charts = {}
    for probe in probes:
        name = f"AOPC and accuracy, {probe}" if probe else "AOPC and accuracy"
        tags = [re.escape(key(prefix, probe, kind)) + "$" for kind in kinds]
        charts[name] = ["Multiline", [*tags, of_others]]
    return {prefix: charts}


def write_layout(trainer: Any, layout: Layout) -> None:
    """Write the layout to each TensorBoard logger; others have no such thing."""
    if not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if is_a(logger, "TensorBoardLogger"):
            try:
                logger.experiment.add_custom_scalars(layout)
            except Exception as error:  # a full disk
                warn(f"TensorBoard did not take the layout of custom scalars. {text_of(error)}")
