"""What the user gave the monitor, and what is measured by it: probes taken, data range settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.monitor.batch_reading import BatchReading
from aopc_monitor.monitor.cost import check_max_overhead
from aopc_monitor.monitor.errors import ConfigurationError, warn
from aopc_monitor.monitor.loaders import first_loader
from aopc_monitor.monitor.loggers import key
from aopc_monitor.monitor.measurement import Measurement, ModelFunction
from aopc_monitor.monitor.probe import Probe
from aopc_monitor.monitor.reference import compared
from aopc_monitor.monitor.trainers import (
    callbacks_of,
    check_model,
    is_dry_run,
    probe_on_all_processes,
)
from aopc_monitor.network.execution import Execution
from aopc_monitor.network.wrappers import CalledNetwork
from aopc_monitor.perturbation.data_range import observed_data_range, range_doubts
from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from aopc_monitor.perturbation.protocol_choices import ProtocolChoices
from aopc_monitor.perturbation.region_map import GivenRegions
from aopc_monitor.utilities.checks import check_positive
from aopc_monitor.utilities.configured import imported, is_path

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

DRY_RUN_IMAGES = 4


@dataclass(frozen=True)
class MonitorSettings:
    """The arguments of `AOPCMonitor` that tell what is measured and shown.

    Attributes:
        sources: loaders or images by the name of the probe; none for the trainer's loader.
        choices: how images are perturbed, as far as it was given.
        reading: where batches have their images and labels.
        figures: whether figures are made.
        tokenizer: what tells the words of texts in them, if not found otherwise.
        reference: what predictions are compared with, if anything.
        custom_scalars: whether TensorBoard gets a layout.
    """

    heatmaps: Mapping[str, Heatmap]
    num_images: int
    sources: Mapping[str, Any]
    choices: ProtocolChoices
    seed: int
    reading: BatchReading
    model_fn: str | ModelFunction | None
    max_overhead: float | None
    prefix: str
    on_error: str
    lerf: bool
    figures: bool
    custom_scalars: bool
    tokenizer: Any = None
    reference: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        check_positive("num_images", self.num_images)
        check_max_overhead(self.max_overhead)
        if self.on_error not in ("warn", "raise"):
            raise ValueError(f'on_error={self.on_error!r} is unknown: choose "warn" or "raise"')

    def network(self, pl_module: LightningModule) -> nn.Module:
        """The network to look at."""
        if self.model_fn is None:
            return pl_module
        if isinstance(self.model_fn, str):
            found = _attribute(pl_module, self.model_fn)
        else:
            found = self.model_fn(pl_module)
        if isinstance(found, nn.Module):
            return found
        if not callable(found):
            raise ConfigurationError(
                f"model_fn={self.model_fn!r} gave a {type(found).__name__}; wanted is a network, "
                "or a callable from images to outputs"
            )
        return CalledNetwork(found, pl_module)

    def measurement(self, probe: Probe, **changes: Any) -> Measurement:
        """The measurement of a probe, with what is not given chosen to fit its images."""
        if probe.words is not None and self.choices.regions is None:
            changes["regions"] = probe.words
        protocol = replace(self.choices, **changes).for_images(probe.images)
        if self.choices.regions is not None:
            _check_regions(protocol, probe)
        return Measurement(probe, protocol, self.heatmaps, self.seed, self.lerf)


# Those that cost little to prepare: the weights are others at each look.
BACKENDS_WHILE_TRAINING = ("eager", "fused")


def execution_while_training(chunk_size: int | None, backend: str) -> Execution:
    """How forwards of a network in training are carried out.

    Raises:
        ValueError: for a back end that is for networks that stay as they are.
    """
    if backend not in BACKENDS_WHILE_TRAINING:
        raise ValueError(
            f"backend={backend!r} is none of a monitor, whose network has other weights at each "
            f"look: choose one of {', '.join(BACKENDS_WHILE_TRAINING)}"
        )
    return Execution(chunk_size, backend=backend)


def _check_regions(protocol: PerturbationProtocol, probe: Probe) -> None:
    regions = protocol.regions
    if isinstance(regions, GivenRegions) and protocol.regions_of(probe.images).numbers is not None:
        raise ConfigurationError(
            f"regions has shape {tuple(regions.numbers.shape)}, a map for each of some images; the "
            "monitor draws its own: give one map for all of them, or a function from images to "
            "their maps"
        )


def _attribute(pl_module: LightningModule, name: str) -> Any:
    try:
        return attrgetter(name)(pl_module)
    except AttributeError as error:
        if is_path(name):  # of a function, as YAML can hold it
            found = imported(name, "model_fn")
            return found(pl_module)
        known = ", ".join(child for child, _ in pl_module.named_children())
        raise ConfigurationError(
            f"model_fn={name!r} is no attribute of the {type(pl_module).__name__}, which has "
            f"{known or 'no networks'}"
        ) from error


def monitors_of(trainer: Trainer) -> list[MonitorSettings]:
    """The settings of all monitors of a trainer."""
    found = [getattr(callback, "settings", None) for callback in callbacks_of(trainer)]
    return [settings for settings in found if isinstance(settings, MonitorSettings)]


def check_prefix(trainer: Trainer, prefix: str) -> None:
    """Raise ConfigurationError where several monitors would log under the same keys.

    Lightning refuses those that it is given in a list, as callbacks that share a state, but not
    those that come by `configure_callbacks`, nor subclasses.
    """
    count = [settings.prefix for settings in monitors_of(trainer)].count(prefix)
    if count > 1:
        raise ConfigurationError(
            f"{count} monitors have prefix={prefix!r}, and would log under the same keys: give "
            f'each a prefix= of its own, such as prefix="{prefix}_2"'
        )


class Preparation:
    """Where the probes come from, and the data range that was read off them.

    Attributes:
        sources: loaders or images by the name of the probe.
        read_off_range: the data range, if none was given: read off once, so that later values
            compare.
    """

    def __init__(self, settings: MonitorSettings) -> None:
        self.settings = settings
        self.sources: Mapping[str, Any] = {}
        self.read_off_range: Any = None

    def check(self, pl_module: LightningModule, loaders: Any) -> None:
        """Raise ConfigurationError for a network or loaders that cannot be looked at."""
        check_model(self.settings.network(pl_module))
        self.sources = self.settings.sources or {"": first_loader(loaders)}
        if self.sources.get("", self) is None:
            raise ConfigurationError(
                "AOPCMonitor found no validation loader (limit_val_batches=0 and a module without "
                "validation_step keep it away, too): give the trainer one, or the monitor "
                "dataloader=, a loader of images; labels are not needed"
            )

    def measurements(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Measurement]:
        """Take the probes, and settle how they are perturbed."""
        settings = self.settings
        num_images = settings.num_images
        if is_dry_run(trainer):
            num_images = min(num_images, DRY_RUN_IMAGES)
        probes = {
            name: probe_on_all_processes(
                trainer, pl_module, source, num_images, settings.seed, settings.reading, name
            )
            for name, source in self.sources.items()
        }
        probes = self._compared(trainer, pl_module, probes)
        images = [probe.images for probe in probes.values() if kind_of(probe.images).is_dense]
        data_range = self._range_of(trainer, images) if images else {}
        return {name: settings.measurement(probe, **data_range) for name, probe in probes.items()}

    def _compared(
        self, trainer: Trainer, pl_module: LightningModule, probes: dict[str, Probe]
    ) -> dict[str, Probe]:
        """The probes with what the reference predicts of them, if there is one."""
        reference, seed = self.settings.reference, self.settings.seed
        if reference is None:
            return probes
        keys = {name: key(self.settings.prefix, name, "agreement") for name in probes}
        return {
            name: compared(trainer, pl_module, probe, reference, seed, keys[name], name)
            for name, probe in probes.items()
        }

    def _range_of(self, trainer: Trainer, images: list[Tensor]) -> dict[str, Any]:
        if self.settings.choices.data_range is not None:
            return {}
        if not self.read_off_range:
            self.read_off_range = observed_data_range(*images)
            doubts = range_doubts(*images)
            if doubts and trainer.is_global_zero:
                more = f" (and {len(doubts) - 1} more channels)" if len(doubts) > 1 else ""
                warn(f"the data range read off the images is doubtful: {doubts[0]}{more}")
        return {"data_range": self.read_off_range}
