"""Control flow, functional transforms and nested tensors inside of a forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from aopc_monitor.heatmaps import DeepLIFT, Heatmap, LRPAlphaBeta, LRPEpsilon
from tests.heatmaps.engine.test_engine import METHODS, assert_same, images, one_by_one
from tests.heatmaps.networks import Apply, between_convolutions

Function = Callable[[Tensor], Tensor]
LAYER = nn.Sequential(one_by_one(), nn.SiLU())
MEMBERS = [nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU()).double() for _ in range(3)]
STATE = {name: nn.Parameter(value.detach(), requires_grad=False)
         for name, value in stack_module_state(MEMBERS)[0].items()}  # fmt: skip


def ensemble(x: Tensor) -> Tensor:
    def member(state: dict[str, Tensor]) -> Tensor:
        found: Tensor = functional_call(MEMBERS[0], state, (x,))
        return found

    return vmap(member)(STATE).mean(0)


def several(x: Tensor) -> Tensor:
    """Several arguments and results, along dimensions of their own."""

    def parts(channel: Tensor, weight: float, pair: tuple[Tensor, None]) -> dict[str, Tensor]:
        return {"a": (weight * channel).relu(), "b": F.silu(pair[0])}

    found = vmap(parts, in_dims=(1, None, (1, None)), out_dims={"a": 1, "b": -1})(x, 2.0, (x, None))
    return found["a"] + found["b"].movedim(-1, 1)


# A network with a transform, and the network without.
TWINS: dict[str, tuple[Function, Function]] = {
    "over the batch": (lambda x: vmap(lambda v: LAYER(v[None])[0])(x), LAYER),
    "in chunks": (lambda x: vmap(F.silu, chunk_size=1)(x), F.silu),
    "nested": (lambda x: vmap(vmap(F.silu), in_dims=1, out_dims=1)(x), F.silu),
    "over an ensemble": (
        ensemble, lambda x: torch.stack([m(x) for m in MEMBERS]).mean(0),
    ),
    "several results": (several, lambda x: (2.0 * x).relu() + F.silu(x)),
    "condition": (
        lambda x: torch.cond(x.sum() > -1e9, lambda v: LAYER(v), lambda v: v * 0.5, (x,)), LAYER,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("method", [*METHODS, DeepLIFT()], ids=str)
def test_transforms_do_not_matter(method: Heatmap, name: str) -> None:
    one, other = (between_convolutions(Apply(function)) for function in TWINS[name])
    assert_same(method, one, other)


def test_vmap_is_itself_again_afterwards() -> None:
    from torch._functorch import apis

    before = apis.vmap_impl
    LRPEpsilon()(between_convolutions(Apply(TWINS["nested"][0])), images(), torch.tensor([0, 1]))
    assert apis.vmap_impl is before
    with pytest.raises(ZeroDivisionError):
        LRPEpsilon()(Apply(lambda x: vmap(lambda v: v / (1 // 0))(x)), images())
    assert apis.vmap_impl is before


class Sequences(nn.Module):
    """Two sequences of different lengths, nested or one after the other."""

    def __init__(self, function: Callable[[nn.Module, Any], Any], *, nested: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.layer = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 8)
        self.head, self.function, self.nested = nn.Linear(8, 4), function, nested
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        parts = [tokens[0], tokens[1, :10]]
        if self.nested:
            values = torch.nested.as_nested_tensor(parts, layout=torch.jagged)
            sums = self.function(self.layer, values).to_padded_tensor(0.0).sum(1)
        else:
            sums = torch.stack([self.function(self.layer, part).sum(0) for part in parts])
        outputs: Tensor = self.head(sums)
        return outputs


OF_SEQUENCES: dict[str, Callable[[nn.Module, Any], Any]] = {
    "linear": lambda layer, x: layer(x),
    "rectified": lambda layer, x: torch.relu(layer(x)),
    "smooth": lambda layer, x: F.gelu(layer(x)) * torch.sigmoid(x),
    "residual": lambda layer, x: x + F.silu(layer(x)),
}


@pytest.mark.parametrize("name", OF_SEQUENCES)
@pytest.mark.parametrize(
    "method",
    [m for m in METHODS if str(m) not in ("LRPEpsilon(epsilon=0.1, relative=True)",)],
    ids=str,
)
def test_nested_tensors_are_their_sequences(method: Heatmap, name: str) -> None:
    nested, single = (Sequences(OF_SEQUENCES[name], nested=n) for n in (True, False))
    assert_same(method, nested, single)


@pytest.mark.parametrize("method", [LRPEpsilon(), LRPAlphaBeta()], ids=str)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_of_the_old_layout_are_refused_with_a_word(method: Heatmap) -> None:
    def nested(x: Tensor) -> Tensor:
        values = torch.nested.as_nested_tensor([x[0], x[1, :, :4]])
        return F.silu(values).to_padded_tensor(0.0)

    with pytest.raises(NotImplementedError, match=r"layout=torch\.jagged"):
        method(between_convolutions(Apply(nested)), images(), torch.tensor([0, 1]))
