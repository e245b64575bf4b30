"""The heatmaps by name, and what may stand in for a name.

A new heatmap is a file of its own, and here its import and one row of `HEATMAPS`: with that it has
its name everywhere, is in `aopc_monitor.heatmaps`, and is on the API page.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from aopc_monitor.heatmaps.base import Heatmap
from aopc_monitor.heatmaps.deconvolution import Deconvolution as Deconvolution
from aopc_monitor.heatmaps.deconvolution import GuidedBackpropagation as GuidedBackpropagation
from aopc_monitor.heatmaps.deeplift import DeepLIFT as DeepLIFT
from aopc_monitor.heatmaps.grad_cam import GradCAM as GradCAM
from aopc_monitor.heatmaps.gradients import GradientTimesInput as GradientTimesInput
from aopc_monitor.heatmaps.gradients import IntegratedGradients as IntegratedGradients
from aopc_monitor.heatmaps.gradients import Sensitivity as Sensitivity
from aopc_monitor.heatmaps.gradients import SmoothGrad as SmoothGrad
from aopc_monitor.heatmaps.lrp import LRP as LRP
from aopc_monitor.heatmaps.lrp import LRPAlphaBeta as LRPAlphaBeta
from aopc_monitor.heatmaps.lrp import LRPEpsilon as LRPEpsilon
from aopc_monitor.heatmaps.lrp_composites import AttnLRP as AttnLRP
from aopc_monitor.heatmaps.lrp_composites import DeepTaylor as DeepTaylor
from aopc_monitor.heatmaps.lrp_composites import LRPEpsilonGammaBox as LRPEpsilonGammaBox
from aopc_monitor.heatmaps.lrp_composites import LRPEpsilonPlus as LRPEpsilonPlus
from aopc_monitor.heatmaps.occlusion import Occlusion as Occlusion
from aopc_monitor.heatmaps.random_order import RandomOrder as RandomOrder
from aopc_monitor.perturbation.data_range import DataRange
from aopc_monitor.utilities.configured import imported, is_class_path, is_path, made_from_path
from aopc_monitor.utilities.error_text import check_takes, unknown_name

HEATMAPS: dict[str, Callable[[], Heatmap]] = {
    "sensitivity_l2": lambda: Sensitivity(norm="l2"),
    "sensitivity_linf": lambda: Sensitivity(norm="linf"),
    "gradient_x_input": GradientTimesInput,
    "integrated_gradients": IntegratedGradients,
    "smoothgrad": SmoothGrad,
    "deconvolution_l2": lambda: Deconvolution(norm="l2"),
    "deconvolution_linf": lambda: Deconvolution(norm="linf"),
    "guided_backpropagation_l2": lambda: GuidedBackpropagation(norm="l2"),
    "guided_backpropagation_linf": lambda: GuidedBackpropagation(norm="linf"),
    "lrp": lambda: LRPEpsilon(epsilon=0.01),
    "lrp_alpha2_beta1": lambda: LRPAlphaBeta(alpha=2, beta=-1),
    "lrp_epsilon_plus": LRPEpsilonPlus,
    "lrp_epsilon_gamma_box": LRPEpsilonGammaBox,
    "deep_taylor": DeepTaylor,
    "attnlrp": AttnLRP,
    "deeplift": DeepLIFT,
    "grad_cam": GradCAM,
    "occlusion": Occlusion,
    "random": RandomOrder,
}
# Heatmaps that need settings, and so have no name.
UNNAMED: tuple[type[Heatmap], ...] = (LRP,)


def heatmap_classes() -> list[type]:
    """The classes of all heatmaps, in the order of the table.

    Example:
        >>> [kind.__name__ for kind in heatmap_classes()][:2]
        ['Sensitivity', 'GradientTimesInput']
    """
    return list(dict.fromkeys([*(type(make()) for make in HEATMAPS.values()), *UNNAMED]))


# The imports `Name as Name` are those that a type checker hands on to `aopc_monitor.heatmaps`,
# where it cannot follow a computed list.
if not TYPE_CHECKING:
    __all__ = [
        *("HEATMAPS", "get", "named_heatmaps", "names", "with_data_range"),
        *(kind.__name__ for kind in heatmap_classes()),
    ]

RESERVED_NAMES = (
    *("confidence", "accuracy", "label_accuracy", "agreement"),
    *("seconds", "overhead", "failures", "figures_seconds"),
)
RESERVED_ENDINGS = ("_gain", "_sem", "_curve", "_lerf", "_srg", "_survival", "_survival_gap")


def names() -> list[str]:
    """Names that `get` knows.

    Example:
        >>> names()[:3]
        ['sensitivity_l2', 'sensitivity_linf', 'gradient_x_input']
    """
    return list(HEATMAPS)


def get(heatmap: str | Heatmap, **settings: Any) -> Heatmap:
    """The heatmap of that name; a callable is returned as it is.

    Args:
        heatmap: a name, a callable, the dotted path of one, or a dict of `class_path` and
            `init_args`, as YAML can hold it.
        **settings: attributes of the named heatmap that shall be others than usual.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
        TypeError: for anything that is neither a name nor callable, or an unknown setting.

    Example:
        >>> get("lrp")
        LRPEpsilon(epsilon=0.01, relative=False)
        >>> get("deep_taylor", data_range=(0.0, 1.0))
        DeepTaylor(data_range=(0.0, 1.0))
    """
    if inspect.isclass(heatmap):
        raise TypeError(
            f"heatmap={heatmap.__name__} is a class: give an object of it, as in "
            f"{heatmap.__name__}()"
        )
    if is_path(heatmap):
        found = imported(str(heatmap), "heatmap")
        return get(cast("Any", found(**settings) if inspect.isclass(found) else found))
    if is_class_path(heatmap):
        return get(made_from_path(cast("Any", heatmap), "heatmap"))
    if isinstance(heatmap, str):
        if heatmap not in HEATMAPS:
            raise ValueError(unknown_name("heatmap", heatmap, names()))
        made: Any = HEATMAPS[heatmap]()
        return cast("Heatmap", dataclasses.replace(made, **settings)) if settings else made
    if settings:
        raise TypeError(f"settings {', '.join(settings)} go with a name, not with {heatmap!r}")
    if not callable(heatmap):
        raise TypeError(
            f"heatmap={heatmap!r} is neither a name nor a callable "
            "(model, images, target) -> (N, H, W)"
        )
    check_takes("heatmap", heatmap, ("model", "images", "target"))
    return heatmap


def get_seeded(heatmap: str | Heatmap, seed: int) -> Heatmap:
    """What `get` gives, with the random order drawn from a seed.

    Example:
        >>> get_seeded("random", seed=3)
        RandomOrder(seed=3)
    """
    return RandomOrder(seed) if heatmap == "random" else get(heatmap)


def with_data_range(heatmap: Heatmap, data_range: DataRange | None) -> Heatmap:
    """The heatmap, under this data range if it needs one and was given none.

    Example:
        >>> with_data_range(DeepTaylor(), (0.0, 1.0))
        DeepTaylor(data_range=(0.0, 1.0))
    """
    asked: Any = heatmap  # a plain function cannot be asked
    lacks_one = getattr(asked, "data_range", data_range) is None
    if data_range is not None and lacks_one and dataclasses.is_dataclass(asked):
        return cast("Heatmap", dataclasses.replace(cast("Any", asked), data_range=data_range))
    return heatmap


def named_heatmaps(heatmap: Any) -> dict[str, Heatmap]:
    """Heatmaps by the name that they are logged under.

    Args:
        heatmap: a name, a callable, several of these in a sequence, or a dict from names to these.

    Raises:
        ValueError: for unknown names, two of one name, none at all, or the random order, which is
            always measured beside the others.
        TypeError: for what is neither name nor callable.

    Example:
        >>> named_heatmaps(["lrp", Sensitivity("linf")])
        {'lrp': LRPEpsilon(epsilon=0.01, relative=False), 'Sensitivity': Sensitivity(norm='linf')}
    """
    if isinstance(heatmap, Mapping) and not is_class_path(heatmap):
        pairs = list(heatmap.items())
    else:
        single = isinstance(heatmap, str) or not isinstance(heatmap, Sequence)
        pairs = [(_name_of(one), one) for one in ([heatmap] if single else heatmap)]
    named = {str(name): get(one) for name, one in pairs}
    if not named or len(named) < len(pairs):
        raise ValueError(
            f"heatmap={heatmap!r} must hold one or more heatmaps of different names; "
            "a dict {name: heatmap} gives them names"
        )
    for name in named:
        if name in RESERVED_NAMES or name.endswith(RESERVED_ENDINGS):
            raise ValueError(
                f"heatmap={name!r} is a name of something else that is logged: call it otherwise, "
                "in a dict {name: heatmap}"
            )
    if "random" in named:
        raise ValueError(
            'heatmap="random": the random order is always measured beside the heatmaps; name at '
            "least one other"
        )
    return named


def _name_of(heatmap: Any) -> str:
    if is_class_path(heatmap):
        heatmap = heatmap["class_path"]
    if is_path(heatmap):
        return str(heatmap).rpartition(".")[2]
    name: str = heatmap if isinstance(heatmap, str) else getattr(heatmap, "__name__", "")
    return name or type(heatmap).__name__
