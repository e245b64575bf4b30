"""Layer-wise relevance propagation (LRP): heatmaps by a table of rules (see `rules.table`)."""

from __future__ import annotations

import difflib
import inspect
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from torch import Tensor

from aopc_monitor.heatmaps.base import BackwardHeatmap
from aopc_monitor.heatmaps.engine.backward_pass import BackwardPass
from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.engine.operations import FIRST_LAYER, GRADIENT_IS_LRP
from aopc_monitor.heatmaps.engine.treatments import FixedRules
from aopc_monitor.heatmaps.pooling import pooled
from aopc_monitor.heatmaps.rules.linear_formulas import alpha_beta_rule, epsilon_rule
from aopc_monitor.heatmaps.rules.linear_operation import LinearOperation, linear
from aopc_monitor.heatmaps.rules.table import Rules, lrp_rules
from aopc_monitor.utilities.checks import are_finite


class RelevancePropagation(BackwardHeatmap):
    """What all LRP heatmaps share: signed relevance by a table of rules, summed over channels."""

    @abstractmethod
    def table(self, images: Tensor) -> Rules:
        """The rules for a batch of images."""

    @property
    def is_accounted_for(self) -> bool:
        """Whether what its rules keep is counted, so that anything else that is missing is lost."""
        return True

    def backward_rules(self, images: Tensor) -> BackwardRules:
        """The engine with this table."""
        return BackwardRules(str(self), self.table(images), GRADIENT_IS_LRP, images)

    def pool(self, images: Tensor, result: BackwardPass) -> Tensor:
        """Sum of relevance over channels: R = a g, and what was carried as R."""
        relevance = images * result.signal
        if result.carried is not None:
            relevance = relevance + result.carried
        relevance = pooled(relevance, "sum")
        self._warn_beyond_range(relevance, result)
        return relevance

    def _warn_beyond_range(self, relevance: Tensor, result: BackwardPass) -> None:
        if are_finite(relevance):
            return
        finite = relevance.isfinite().flatten(1).all(dim=1)
        # A network that itself gives NaN is another matter, of which others tell.
        beyond = int((~finite & result.outputs.isfinite().all(dim=1)).sum())
        if beyond:
            warnings.warn(
                f"{self} left the range of {relevance.dtype} in {beyond} of {len(relevance)} "
                "inputs, whose relevance is NaN or infinite: where it grows at each of many steps, "
                "as AttnLRP does in an LSTM, take a larger epsilon, 'lrp', or network and inputs "
                "in float64",
                stacklevel=2,
            )


@dataclass(frozen=True)
class LRP(RelevancePropagation):
    """Layer-wise relevance propagation (LRP) by a table of rules.

    The relevance of the class score is shared, operation by operation, until it reaches the pixels
    (Bach et al. 2015; Samek et al. 2017, section II-C). Eval-mode batch normalisation is fused with
    the convolution or linear layer before it. An operation without a rule is passed by its plain
    gradient, and named in a warning.

    Attributes:
        rules: what differs from `lrp_rules()`: from an operation's plain name to its rule. The
            entry "first layer" is for linear operations that work on the images themselves.
        name: what warnings and reports call it.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from aopc_monitor.heatmaps import gamma_rule, linear
        >>> gamma = LRP(rules={"conv2d": linear(gamma_rule, gamma=0.25)}, name="LRP-gamma")
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> gamma(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    rules: Rules = field(default_factory=dict, repr=False, hash=False)
    name: str = "LRP"

    def __post_init__(self) -> None:
        if not isinstance(self.rules, Mapping):
            raise TypeError(f"rules={self.rules!r} is not a table from operation names to rules")
        for operation, rule in self.rules.items():
            _check_entry(operation, rule)

    def table(self, images: Tensor) -> Rules:
        """The default table with the changes."""
        return {**lrp_rules(), **self.rules}

    @property
    def is_accounted_for(self) -> bool:
        """What a rule of somebody else keeps is known for linear operations alone."""
        return all(isinstance(rule, LinearOperation) for rule in self.rules.values())


def _check_entry(operation: Any, rule: Any) -> None:
    """Raise for an entry of a table that could never work."""
    known = {*lrp_rules(), *GRADIENT_IS_LRP, FIRST_LAYER}
    if not isinstance(operation, str):
        raise TypeError(
            f"rules has the key {operation!r}: give the plain name of a torch operation, such as "
            '"conv2d"; heatmaps.check lists those of a model'
        )
    near = difflib.get_close_matches(operation.lower(), known, n=3, cutoff=0.8)
    if operation not in known and near:
        raise ValueError(f"rules has the key {operation!r}: did you mean {', '.join(near)}?")
    if not callable(rule):
        raise TypeError(f"rules[{operation!r}]={rule!r} is no rule: give linear(gamma_rule) or so")
    names = list(inspect.signature(rule).parameters) if inspect.isfunction(rule) else []
    if "relevance" in names or names[:1] == ["layer"]:
        raise TypeError(
            f"rules[{operation!r}] is a rule of linear operations: wrap it, as in "
            f"heatmaps.linear({getattr(rule, '__name__', 'rule')}, ...)"
        )


@dataclass(frozen=True)
class LRPEpsilon(RelevancePropagation):
    """LRP with the epsilon rule in every linear operation (Bach et al. 2015; Samek et al., eq. 7).

    With biases at zero and epsilon towards zero, the relevance of an image sums to its class score.

    Attributes:
        epsilon: stabiliser in units of the layers' outputs; the paper uses 0.01, 1 and 100.
        relative: multiply it by the root mean square of each layer's outputs, so that one value
            suits layers of any scale.

    Raises:
        ValueError: unless epsilon is positive.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> LRPEpsilon(epsilon=1.0)(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    epsilon: float = 0.01
    relative: bool = False

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)

    def table(self, images: Tensor) -> Rules:
        """Eq. 7 in all linear operations."""
        return _epsilon_rules(self.epsilon, self.relative)


# A heatmap of few images takes little longer than its table.
@lru_cache(maxsize=8)
def _epsilon_rules(epsilon: float, relative: bool) -> Rules:
    rule = linear(epsilon_rule, epsilon=epsilon, relative=relative)
    return FixedRules(lrp_rules(rule, epsilon))


@dataclass(frozen=True)
class LRPAlphaBeta(RelevancePropagation):
    """LRP with the alpha-beta rule in every linear operation (Samek et al. 2017, eq. 8).

    Attributes:
        alpha: weight of positive contributions.
        beta: weight of negative contributions; alpha + beta = 1, so beta is 0 or negative. The
            paper uses 2 and -1.

    Raises:
        ValueError: unless alpha + beta = 1.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> LRPAlphaBeta(alpha=2, beta=-1)(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    alpha: float = 2.0
    beta: float = -1.0

    def __post_init__(self) -> None:
        if not abs(self.alpha + self.beta - 1) <= 1e-6:
            raise ValueError(
                f"alpha={self.alpha} and beta={self.beta} must sum to 1; elsewhere beta is often "
                "given without its sign: alpha 2, beta 1 is alpha=2, beta=-1 here"
            )

    def table(self, images: Tensor) -> Rules:
        """Eq. 8 in all linear operations."""
        return lrp_rules(linear(alpha_beta_rule, alpha=self.alpha, beta=self.beta), epsilon=0.0)


def check_epsilon(epsilon: float) -> None:
    """Raise ValueError unless epsilon is a positive number."""
    if not 0 < epsilon < float("inf"):
        raise ValueError(f"epsilon={epsilon} must be positive")
