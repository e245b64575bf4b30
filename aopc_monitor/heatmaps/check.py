"""Whether a heatmap of a network is what its name says: checked on a few images, before trust."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps.base import BackwardHeatmap, Heatmap, network_in_isolation
from aopc_monitor.heatmaps.check_report import OperationUse, Report
from aopc_monitor.heatmaps.engine.audit import Audit
from aopc_monitor.heatmaps.engine.backward_pass import BackwardPass, backward_pass
from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.engine.dependence import CutOffWarning
from aopc_monitor.heatmaps.engine.findings import NoRuleWarning
from aopc_monitor.heatmaps.grad_cam import EarlyLayerWarning
from aopc_monitor.heatmaps.lrp import RelevancePropagation
from aopc_monitor.heatmaps.of_texts import are_texts, for_texts, texts_to_check
from aopc_monitor.heatmaps.pixel_classes import with_classes_of_images
from aopc_monitor.heatmaps.table import get
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.lockstep import in_step, together
from aopc_monitor.network.outputs import OutputError
from aopc_monitor.perturbation.input_kinds import checked_inputs, kind_of

FORWARD_TOLERANCE = 1e-3
QUANTIZED_TOLERANCE = 0.1
LOSS_TOLERANCE = 0.01
LEAK_TOLERANCE = 0.01
# How much larger than one rounding error those of a whole network may grow.
ROUNDING_STEPS = 1e3


def check(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    heatmap: str | Heatmap,
    target: Tensor | None = None,
    name: str | None = None,
) -> Report:
    """Try a heatmap on a few images, and report whether it is what its name says.

    Args:
        model: network that returns (N, classes); left as it was.
        images: (N, C, H, W), or inputs of another kind; a handful is enough.
        heatmap: a name, or any callable heatmap.
        target: (N,) explained classes; the predictions if not given.
        name: what the report calls it; by default as it was given.

    Raises:
        TypeError, ValueError: as the heatmap itself.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 10))
        >>> report = check(model, torch.rand(2, 3, 8, 8), "lrp")
        >>> [(use.name, use.count) for use in report.operations]
        [('conv2d', 1), ('flatten', 1), ('gelu', 1), ('linear', 1)]
        >>> report.is_fine
        True
    """
    of_texts = are_texts(images)
    name = str(getattr(heatmap, "__name__", heatmap)) if name is None else name
    made = get(heatmap)
    if of_texts:
        made = for_texts(made)
        model, images = texts_to_check(made, model, images)
        target = None if target is None else target[: len(images)]
    images = checked_inputs(images)
    with in_step(model):
        found = together(f"check of {name}", lambda: _checked(model, images, made, target, name))
    return replace(found, unit="tokens" if of_texts else kind_of(images).unit)


def _checked(
    model: nn.Module, images: Tensor, heatmap: Heatmap, target: Tensor | None, name: str
) -> Report:
    model, target, predicted = _with_classes_of_images(model, images, target)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if isinstance(heatmap, BackwardHeatmap):
            found = _of_backward_pass(model, images, heatmap, target)
        else:
            found = Report(name, (), (), None, None, None, None, ())
        relevance = _relevance(model, images, heatmap, predicted)
    problems = [*found.problems, *_problems_of(relevance, images)]
    for warning in caught:
        if isinstance(warning.message, NoRuleWarning):
            problems += [] if found.without_rule else [str(warning.message)]
        elif isinstance(warning.message, (CutOffWarning, EarlyLayerWarning)):
            problems.append(str(warning.message))
        else:
            warnings.warn(warning.message, stacklevel=2)
    problems = list(dict.fromkeys(problems))
    return replace(found, heatmap=name, problems=tuple(problems))


def _with_classes_of_images(
    model: nn.Module, images: Tensor, target: Tensor | None
) -> tuple[nn.Module, Tensor | None, Tensor | None]:
    """The model itself, unless it gives classes to pixels; targets, and those or the predictions.

    There are no predictions where the model could not be asked.
    """
    try:
        with network_in_isolation(model) as network, torch.no_grad():
            outputs = network.outputs(network.prepared(images.detach().clone()))
            return model, target, outputs.argmax(dim=1) if target is None else target
    except OutputError:
        with suppress(OutputError):
            model, target = with_classes_of_images(model, images, target)
    except Exception:  # which comes again, where it is told
        return model, target, target
    return model, target, target


def _relevance(model: nn.Module, images: Tensor, heatmap: Heatmap, target: Tensor | None) -> object:
    if target is None:
        with network_in_isolation(model) as network, torch.no_grad():
            target = network.outputs(network.prepared(images)).argmax(dim=1)
    # Heatmaps of this library look after the model themselves; any function may not.
    with nullcontext() if getattr(heatmap, "isolates", False) else untouched(model):
        return heatmap(model, images, target)


def _problems_of(relevance: object, images: Tensor) -> list[str]:
    wanted = kind_of(images).locations(images)
    if not isinstance(relevance, Tensor) or relevance.shape != wanted:
        shape = tuple(relevance.shape) if isinstance(relevance, Tensor) else type(relevance)
        return [f"it returned {shape} and not a tensor of shape {wanted}"]
    flat = relevance.flatten(1)
    if not bool(torch.isfinite(flat).all()):
        return ["it holds NaN or infinite values"]
    constant = int((flat.max(dim=1).values == flat.min(dim=1).values).sum())
    if constant:
        return [
            f"it is constant on {constant} of {len(images)} {kind_of(images).name}, so that its "
            "order is the random one (normal while the last layer's weights are zero; if its "
            "activations are far below LRP's epsilon, use LRPEpsilon(relative=True))"
        ]
    return []


class _Traced(NamedTuple):
    """One backward pass of a heatmap, and what the engine saw of it."""

    images: Tensor
    plain_outputs: Tensor
    result: BackwardPass
    mode: BackwardRules
    audit: Audit


def _traced(
    model: nn.Module, images: Tensor, heatmap: BackwardHeatmap, target: Tensor | None
) -> _Traced:
    audit = Audit(watches=isinstance(heatmap, RelevancePropagation))
    modes: list[BackwardRules] = []

    def rules(entrance: Tensor) -> BackwardRules:
        mode = heatmap.backward_rules(entrance) or _counting(entrance)
        mode.audit = audit
        modes.append(mode)
        return mode

    with network_in_isolation(model, heatmap) as network:
        images = network.prepared(images.detach().clone())
        plain = network.outputs(images).detach()
        target = plain.argmax(dim=1) if target is None else target
        result = backward_pass(network, images, target, rules, _in_units_of_the_score)
    return _Traced(images, plain, result, modes[0], audit)


def _of_backward_pass(
    model: nn.Module, images: Tensor, heatmap: BackwardHeatmap, target: Tensor | None
) -> Report:
    traced = _traced(model, images, heatmap, target)
    result, mode, audit = traced.result, traced.mode, traced.audit
    conserves = isinstance(heatmap, RelevancePropagation)
    total = heatmap.pool(traced.images, result).flatten(1).sum(dim=1) * len(images)
    plain = traced.plain_outputs
    leak = _leak(traced, heatmap)
    difference = float((result.outputs - plain).abs().max() / plain.abs().max().clamp_min(1e-30))
    without = tuple(sorted(mode.without_rule))
    return Report(
        heatmap="",
        operations=_uses(mode.used),
        without_rule=without,
        conservation_error=float((total - 1)[result.scores != 0].abs().mean())
        if conserves
        else None,
        absorbed=audit.absorbed if conserves else None,
        leak=leak,
        forward_difference=difference,
        problems=(
            *_rule_problems(without, mode.used),
            *_forward_problems(difference, mode.used),
            *_loss_problems(audit.lost),
            *_leak_problems(leak, traced, heatmap),
        ),
    )


def _in_units_of_the_score(scores: Tensor) -> Tensor:
    """Signals under which relevance is a share of the score, averaged over the images."""
    return torch.where(scores == 0, 0.0, 1 / scores) / len(scores)


def _counting(images: Tensor) -> BackwardRules:
    """An engine that changes nothing."""
    return BackwardRules("gradient", {}, None, images)


def _uses(used: Counter[tuple[str, str]]) -> tuple[OperationUse, ...]:
    return tuple(
        OperationUse(name, rule or "gradient (no rule)", count)
        for (name, rule), count in sorted(used.items())
    )


def _rule_problems(names: tuple[str, ...], used: Counter[tuple[str, str]]) -> list[str]:
    if not names:
        return []
    counts = {name: used[name, ""] for name in names}
    listed = ", ".join(f"{name} ({count} x)" if count else name for name, count in counts.items())
    return [f"plain gradient where there is no rule: {listed}"]


def _loss_problems(lost: float) -> list[str]:
    if abs(lost) <= LOSS_TOLERANCE:
        return []
    return [
        f"{lost:.2g} of the score was given to activations of zero, which cannot hand it on: give "
        'flat_rule and w_square_rule to the "first layer" only'
    ]


def _leak(traced: _Traced, heatmap: BackwardHeatmap) -> float | None:
    """What is left of the score once pixels, constants and formulas have had their shares."""
    if not isinstance(heatmap, RelevancePropagation) or not heatmap.is_accounted_for:
        return None
    started = float((traced.result.scores != 0).double().mean())
    reached = float(heatmap.pool(traced.images, traced.result).double().sum())
    return started - reached - traced.audit.taken


def _leak_problems(leak: float | None, traced: _Traced, heatmap: BackwardHeatmap) -> list[str]:
    if leak is None:
        return []
    # Where a score is a small difference of large contributions, rounding alone is a part of it.
    pixels = float(heatmap.pool(traced.images, traced.result).abs().sum())
    rounding = ROUNDING_STEPS * traced.audit.rounding
    limit = LEAK_TOLERANCE + rounding * max(pixels, traced.audit.largest)
    if not abs(leak) > limit:  # also where it is NaN, which the heatmap itself then is
        return []
    # Those without a rule are a problem already, which accounts for what they lose.
    missing = traced.audit.missing()
    unruled = traced.mode.without_rule
    lossy = {name: loss for name, loss in missing.most_common() if abs(loss) > limit}
    named = [f"{name} ({loss:.2g})" for name, loss in lossy.items() if name not in unruled]
    if unruled and not named:
        return []
    where = f"in {', '.join(named)}" if named else "between operations"
    return [
        f"{leak:.2g} of the score is lost {where}: neither constants nor stabilisers account for "
        "it, so a rule there does not conserve relevance"
    ]


def _forward_problems(difference: float, used: Counter[tuple[str, str]]) -> list[str]:
    # Integer arithmetic rounds otherwise, which a step of a coarse grid may tell from ours.
    quantized = any(name.startswith("quantized::") for name, _ in used)
    if difference <= (QUANTIZED_TOLERANCE if quantized else FORWARD_TOLERANCE):
        return []
    return [
        f"outputs differ by {difference:.1g} of their size from one forward pass to the next: "
        "is the network random in eval mode?"
    ]
