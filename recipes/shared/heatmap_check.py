"""Which heatmaps apply to a network, and what is to be known of them there; before the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import Deconvolution, GuidedBackpropagation, Heatmap

# What `heatmaps.check` calls the treatment of operations that are no rectifiers.
_OF_OTHERS = {"its gradient", "gradient (no rule)", "softmax gradient"}
_NO_RECTIFIER = (
    "no ReLU or other rectifier was met, so that it is the plain gradient, in the order of "
    "sensitivity"
)


@dataclass(frozen=True)
class Checked:
    """Heatmaps tried on a network.

    Attributes:
        applicable: the heatmaps that apply to it, by name.
        notes: a line of each, also of those that do not apply, by name.
        doubtful: the names of those whose line tells a problem.
    """

    applicable: dict[str, Heatmap]
    notes: dict[str, str]
    doubtful: tuple[str, ...]


def checked(network: nn.Module, images: Tensor, makers: Mapping[str, Heatmap]) -> Checked:
    """Try heatmaps on a few images; those that do not apply are left out, and the note says why.

    Args:
        network: returns (N, classes); left as it was.
        images: (N, 3, H, W); two are enough.
        makers: the heatmaps, by name.

    Raises:
        ValueError: if none of them applies.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
        >>> makers = {name: heatmaps.get(name) for name in ("lrp", "grad_cam")}
        >>> found = checked(network, torch.rand(2, 3, 8, 8), makers)
        >>> list(found.applicable), found.notes["grad_cam"][:40]
        (['lrp'], 'grad_cam: left out, layer is not given, ')
    """
    applicable, notes, doubtful = dict[str, Heatmap](), dict[str, str](), list[str]()
    for name, make in makers.items():
        try:
            report = heatmaps.check(network, images, make, name=name)
        except (TypeError, ValueError) as error:
            notes[name], is_fine = f"{name}: left out, {error}", False
        else:
            applicable[name] = make
            notes[name], is_fine = _note(make, report)
        if not is_fine:
            doubtful.append(name)
    if not applicable:
        raise ValueError("\n".join(["no heatmap applies to this network:", *notes.values()]))
    return Checked(applicable, notes, tuple(doubtful))


def _note(heatmap: Heatmap, report: heatmaps.Report) -> tuple[str, bool]:
    """What is to be known, and whether it is no problem."""
    if not isinstance(heatmap, (Deconvolution, GuidedBackpropagation)):
        return report.line(), report.is_fine
    # Both differ from the gradient at rectifiers only.
    met = [f"{use.name} ({use.count} x)" for use in report.operations if use.rule not in _OF_OTHERS]
    if not met:
        return f"{report.heatmap}: WARNING: {_NO_RECTIFIER}", False
    return f"{report.line()}, rectifiers: {', '.join(met)}", report.is_fine
