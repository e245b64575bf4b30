"""Where the modules of version 0.1 have gone: importing one by its old path names the new one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "aopc_estimate": "metrics.estimate",
    "batches": "utilities.batches",
    "bounds": "metrics.functional.bounds",
    "checks": "utilities.checks",
    "clean": "metrics.functional.clean_batch",
    "complexity": "metrics.complexity",
    "curve": "perturbation.curve",
    "estimation": "metrics.estimate",
    "evaluation": "metrics.evaluation",
    "execution": "network.execution",
    "functional": "metrics.functional.aopc",
    "global_generators": "network.random_states",
    "heatmaps.audit": "heatmaps.engine.audit",
    "heatmaps.backward": "heatmaps.engine.backward_rules",
    "heatmaps.backward_pass": "heatmaps.engine.backward_pass",
    "heatmaps.calls": "heatmaps.engine.calls",
    "heatmaps.carriers": "heatmaps.engine.carried_relevance",
    "heatmaps.composites": "heatmaps.lrp_composites",
    "heatmaps.controls": "heatmaps.random_order",
    "heatmaps.dependence": "heatmaps.engine.dependence",
    "heatmaps.gradcam": "heatmaps.grad_cam",
    "heatmaps.kept": "heatmaps.engine.saved_values",
    "heatmaps.linear_calls": "heatmaps.rules.linear_readers",
    "heatmaps.linear_operations": "heatmaps.rules.linear_operation",
    "heatmaps.linear_rules": "heatmaps.rules.linear_formulas",
    "heatmaps.network": "heatmaps.engine.explained_network",
    "heatmaps.nonlinear": "heatmaps.rules.nonlinear",
    "heatmaps.operations": "heatmaps.engine.operations",
    "heatmaps.paths": "heatmaps.gradients",
    "heatmaps.preflight": "heatmaps.check",
    "heatmaps.products": "heatmaps.rules.products",
    "heatmaps.relevance": "heatmaps.lrp",
    "heatmaps.stabilizer": "heatmaps.rules.stabilizer",
    "heatmaps.substitution": "heatmaps.engine.substitution",
    "imputation": "perturbation.noisy_linear",
    "isolation": "network.isolation",
    "mean_over_images": "metrics.base",
    "memory": "network.chunks",
    "metric": "metrics.aopc",
    "monitor.attempts": "monitor.failures",
    "monitor.custom_scalars": "monitor.dashboard.custom_scalars",
    "monitor.drawing": "monitor.loaders",
    "monitor.lightning_base": "monitor.trainers",
    "monitor.messages": "monitor.errors",
    "monitor.overhead": "monitor.cost",
    "monitor.panels": "monitor.dashboard.panels",
    "monitor.pictures": "monitor.dashboard.picture_loggers",
    "monitor.preparation": "monitor.settings",
    "monitor.preview": "monitor.cost",
    "monitor.processes": "monitor.consensus",
    "monitor.sample": "monitor.dashboard.shown_images",
    "paired": "utilities.statistics",
    "perturbations": "perturbation.replacements",
    "precision": "utilities.statistics",
    "processes": "utilities.distributed",
    "protocol": "perturbation.protocol",
    "randomness": "utilities.randomness",
    "regions": "perturbation.regions",
    "sampling": "perturbation.steps",
    "scores": "network.scores",
    "sensitivity_n": "metrics.functional.sensitivity_n",
    "sensitivity_n_metric": "metrics.sensitivity_n",
    "setting_text": "utilities.setting_text",
    "snapshot": "network.snapshot",
    "subsets": "metrics.functional.subsets",
    "wrappers": "network.wrappers",
}


class MovedModules(MetaPathFinder):
    """Finds nothing, and says where to look; asked only after all others have found nothing.

    A module's `__getattr__` would not do: `import aopc_monitor.bounds` never asks it.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raise ImportError for a module that has moved."""
        package, _, name = fullname.partition(".")
        if package == "aopc_monitor" and name in MOVED:
            # Not ModuleNotFoundError, whose text `from aopc_monitor import bounds` would not show.
            raise ImportError(f"{fullname} is now {package}.{MOVED[name]}", name=fullname)
        return None


def name_moved_modules() -> None:
    """Have imports of old paths name the new ones, from now on."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
