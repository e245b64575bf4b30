"""What the network returns for a probe: told in the plan line, and doubted aloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from aopc_monitor.monitor.consensus import together
from aopc_monitor.monitor.errors import warn
from aopc_monitor.monitor.measurement import (
    CHECKED_IMAGES,
    Measurement,
    ModelFunction,
    device_of,
)
from aopc_monitor.monitor.trainers import without_logging
from aopc_monitor.network.asked import new_doubts, traits_of_asked
from aopc_monitor.network.further_inputs import moved
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.traits import Traits

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

# A data set marks what has no label by one value, or by one and a second for "several".
MOST_MARKS = 2


def told_of_outputs(
    trainer: Trainer,
    pl_module: LightningModule,
    network_of: ModelFunction,
    measurements: Mapping[str, Measurement],
) -> dict[str, Measurement]:
    """The measurements with what their networks return noted, and labels that are none left out.

    Warns of what is doubted, once. If the network is broken, the first evaluation tells.
    """
    traits = together(
        trainer, lambda: _traits(trainer, pl_module, network_of, next(iter(measurements.values())))
    )
    if traits is None:
        return dict(measurements)
    score = next(iter(measurements.values())).protocol.score
    doubts, target = traits.doubts(score), next(iter(measurements.values())).protocol.target
    told = f"{traits.told(score)}{_told_of_target(target)}"
    noted = {}
    for name, measurement in measurements.items():
        probe = measurement.probe
        labels = _as_sides(probe.labels, traits)
        found = _label_doubts(labels, traits, score)
        labels = None if found else labels
        of_probe = f"probe {name!r}: " if name else ""
        doubts += [f"{of_probe}{doubt}" for doubt in found]
        probe = replace(probe, labels=labels, notes=(*probe.notes, told))
        noted[name] = replace(measurement, probe=probe)
    for doubt in new_doubts(network_of(pl_module), doubts):
        if trainer.is_global_zero:
            warn(doubt)
    return noted


def _traits(
    trainer: Trainer,
    pl_module: LightningModule,
    network_of: ModelFunction,
    measurement: Measurement,
) -> Traits | None:
    precision, probe = trainer.precision_plugin, measurement.probe
    try:
        network = network_of(pl_module)
        device = device_of(network, pl_module)
        few = probe.few(CHECKED_IMAGES)
        images = precision.convert_input(few.images.to(device))
        inputs = precision.convert_input(moved(few.inputs, device))
        protocol = measurement.protocol
        with (
            without_logging(pl_module),
            precision.forward_context(),
            untouched(network, measurement.seed),
        ):
            return traits_of_asked(network, images, protocol.score, protocol.output_fn, inputs)
    except Exception:  # whatever a user's model may raise
        return None


def _as_sides(labels: Tensor | None, traits: Traits) -> Tensor | None:
    """One-hot rows for a network of one number are no independent labels but its two sides."""
    if labels is None or traits.output.num_classes > 1 or labels.ndim != 2 or traits.space:
        return labels
    is_one_hot = labels.shape[1] == 2 and bool((labels.sum(dim=1) == 1).all())
    return labels.long().argmax(dim=1) if is_one_hot else labels


def _told_of_target(target: object) -> str:
    if target is None:
        return ""
    what = "all that is predicted" if target == "predicted" else "what target= chooses"
    return f"; explained is {what}, each class by itself"


def _label_doubts(labels: Tensor | None, traits: Traits, score: object) -> list[str]:
    """Why labels cannot be those of the network, if they cannot."""
    if labels is None:
        return []
    num_classes = traits.num_sides(score)
    if score == "segmentation":
        if labels.shape[1:] != traits.space:
            masks, space = (" x ".join(map(str, s)) for s in (labels.shape[1:], traits.space))
            return [
                f"masks of {masks} are not taken, since the model gives classes to {space} pixels: "
                "give labels_fn=, which resizes them, or output_fn="
            ]
    elif labels.ndim == 2:
        return _row_doubts(labels, num_classes, score)
    outside = labels[(labels < 0) | (labels >= num_classes)].unique()
    classes = f"the model's {num_classes} classes"
    if len(outside) > MOST_MARKS:
        return [
            f"labels from {int(labels.min())} to {int(labels.max())} are none of {classes}, and "
            "not taken: give labels_fn= where they are something else, or output_fn= where the "
            "model returns other classes too"
        ]
    if outside.tolist() == [num_classes] and int(labels.min()) > 0:
        return [
            f"labels from {int(labels.min())} to {num_classes} seem to be counted from 1, while "
            f"{classes} are counted from 0, and are not taken: give labels_fn=, such as lambda "
            "batch: batch[1] - 1"
        ]
    return []


def _row_doubts(labels: Tensor, num_classes: int, score: object) -> list[str]:
    rows = f"rows of {labels.shape[1]} independent labels"
    if score != "sigmoid":
        return [
            f"{rows} are not taken, since score={score!r} knows a single class for each image: "
            'give score="sigmoid"'
        ]
    if labels.shape[1] != num_classes:
        return [f"{rows} are not taken, since the model returns {num_classes}: give labels_fn="]
    return []
