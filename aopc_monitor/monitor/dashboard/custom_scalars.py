"""A layout for TensorBoard: AOPC and accuracy in one chart."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from aopc_monitor.monitor.dashboard.picture_loggers import is_a, tag_in
from aopc_monitor.monitor.errors import text_of, warn
from aopc_monitor.monitor.loggers import key
from aopc_monitor.monitor.settings import MonitorSettings, monitors_of

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

Layout = dict[str, dict[str, list[Any]]]


def layout_of(monitors: Sequence[MonitorSettings], tag_of: Callable[[str], str] = str) -> Layout:
    """Charts by category and name, as `SummaryWriter.add_custom_scalars` takes them.

    Args:
        monitors: the settings of all monitors. Each that wants a layout has a category, named by
            its prefix, with a chart for each probe.
        tag_of: from the key of a number to its tag in the logger.

    Returns:
        Charts of regular expressions, which TensorBoard matches with the beginning of each tag. The
        last one of a chart stands for any tag of an accuracy that no monitor logged.

    Example:
        >>> from aopc_monitor import AOPCMonitor
        >>> charts = layout_of([AOPCMonitor("lrp", custom_scalars=True).settings])["aopc"]
        >>> charts["AOPC and accuracy"][1][:2]
        ['aopc/lrp$', 'aopc/random$']
    """
    own = "|".join(re.escape(tag_of(f"{settings.prefix}/")) for settings in monitors)
    of_others = rf"(?!{own}).*[Aa]cc"
    layout: Layout = {}
    for settings in monitors:
        if settings.custom_scalars:
            charts = layout.setdefault(settings.prefix, {})
            for probe in settings.sources or {"": None}:
                name = f"AOPC and accuracy, {probe}" if probe else "AOPC and accuracy"
                kinds = [*settings.heatmaps, "random", "confidence", "accuracy"]
                kinds += ["agreement"] * (settings.reference is not None)
                tags = [tag_of(key(settings.prefix, probe, kind)) for kind in kinds]
                charts[name] = ["Multiline", [*(re.escape(tag) + "$" for tag in tags), of_others]]
    return layout


def write_layout(trainer: Trainer) -> None:
    """Write the layout to each TensorBoard logger; others have no such thing.

    TensorBoard keeps one layout of a run, so that of each monitor is that of all.
    """
    if not trainer.is_global_zero:
        return
    monitors = monitors_of(trainer)
    loggers: list[Any] = trainer.loggers
    for logger in loggers:
        if is_a(logger, "TensorBoardLogger"):
            try:
                logger.experiment.add_custom_scalars(layout_of(monitors, partial(tag_in, logger)))
            except Exception as error:  # a full disk
                warn(f"TensorBoard did not take the layout of custom scalars. {text_of(error)}")
