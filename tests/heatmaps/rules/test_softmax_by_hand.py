"""Softmax and kin, written by hand: the heatmaps of the network that calls a softmax."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import AttnLRP, Heatmap, LRPEpsilon
from tests.heatmaps.networks import Apply, assert_conserved, held

Function = Callable[[Tensor], Tensor]
EXACT = LRPEpsilon(1e-12)
TO_NODES = torch.tensor([0, 1, 2, 3] * 4)


def images() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, 8, 8, dtype=torch.double, generator=generator)


class Attending(nn.Module):
    """One head of attention over 16 patches, with a softmax of one's own."""

    def __init__(self, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 8, 2, 2, bias=False)
        self.maps = nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(3))
        self.head = nn.Linear(8, 4, bias=False)
        self.attend = attend
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        query, key, value = (linear(tokens) for linear in self.maps)
        outputs: Tensor = self.head(self.attend(query, key, value).mean(1))
        return outputs


def by(softmax: Function) -> Attending:
    return Attending(lambda q, k, v: softmax(q @ k.transpose(1, 2)) @ v)


def shifted(a: Tensor) -> Tensor:
    e = (a - a.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


def shifted_by_a_constant(a: Tensor) -> Tensor:
    e = (a - a.amax(-1, keepdim=True).detach()).exp()
    return e / (e.sum(-1, keepdim=True) + 1e-12)


def in_place(a: Tensor) -> Tensor:
    e = a.sub(a.amax(-1, keepdim=True)).exp_()
    e /= e.sum(-1, keepdim=True)
    return e


BY_HAND: dict[str, Function] = {
    "shifted": shifted,
    "shifted by a constant": shifted_by_a_constant,
    "in place": in_place,
    "unshifted": lambda a: torch.exp(a) / torch.sum(torch.exp(a), dim=-1, keepdim=True),
    "logarithm": lambda a: a.log_softmax(-1).exp(),
    "log-sum-exp": lambda a: (a - torch.logsumexp(a, -1, keepdim=True)).exp(),
    "divided": lambda a: torch.div(a.exp(), a.exp().sum(-1).unsqueeze(-1).expand_as(a)),
}


def relevance(heatmap: Heatmap, model: nn.Module) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return heatmap(model, images(), torch.tensor([0, 1]))


@pytest.mark.parametrize("name", BY_HAND)
def test_a_softmax_by_hand_is_a_softmax(name: str) -> None:
    expected = relevance(EXACT, by(lambda a: a.softmax(-1)))
    assert_conserved(EXACT, by(BY_HAND[name]), images())
    torch.testing.assert_close(relevance(EXACT, by(BY_HAND[name])), expected)


@pytest.mark.parametrize("name", [name for name in BY_HAND if name not in ("in place", "divided")])
def test_where_nothing_is_a_gate_it_gets_the_gradient_of_a_softmax(name: str) -> None:
    expected = relevance(AttnLRP(1e-12), by(lambda a: a.softmax(-1)))
    torch.testing.assert_close(relevance(AttnLRP(1e-12), by(BY_HAND[name])), expected)


def over_nodes(a: Tensor) -> Tensor:
    """Attention over a graph: each edge is divided by the sum of its node (as in GAT)."""
    e = (a - a.max()).exp()
    sums = torch.zeros(*e.shape[:2], 4).double().index_add(2, TO_NODES, e)
    return e / (sums[..., TO_NODES] + 1e-16)


def scattered(a: Tensor) -> Tensor:
    e, index = a.exp(), TO_NODES.expand_as(a)
    return e / torch.zeros(*a.shape[:2], 4).double().scatter_add(2, index, e).gather(2, index)


def linear_attention(feature: Function) -> Attending:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = feature(q), feature(k)
        return (q @ (k.transpose(1, 2) @ v)) / (q @ k.sum(1).unsqueeze(-1))

    return Attending(attend)


def quadratic(feature: Function) -> Attending:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = torch.einsum("bnd,bmd->bnm", feature(q), feature(k))
        return weights / weights.sum(-1, keepdim=True) @ v

    return Attending(attend)


def talking_heads(mix: Callable[[Tensor, Tensor], Tensor]) -> Attending:
    """Attention of two heads whose weights are mixed after the softmax (CaiT, DeepViT)."""
    mixing = torch.tensor([[0.8, -0.3], [0.4, 0.9]]).double()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in (q, k, v))
        weights = mix((q @ k.transpose(2, 3)).softmax(-1), mixing)
        return (weights @ v).transpose(1, 2).flatten(2)

    return Attending(attend)


WEIGHING: dict[str, Attending] = {
    "graph": by(over_nodes),
    "graph, scattered": by(scattered),
    "exponential features": linear_attention(torch.exp),
    "elu + 1": linear_attention(lambda x: F.elu(x) + 1),
    "1 + elu, in quadratic time": quadratic(lambda x: 1 + F.elu(x)),
    "exponential features in quadratic time": quadratic(torch.exp),
    "heads mixed by a layer": talking_heads(
        lambda w, mixing: F.linear(w.permute(0, 2, 3, 1), mixing).permute(0, 3, 1, 2)
    ),
    "heads mixed by a convolution": talking_heads(
        lambda w, mixing: F.conv2d(w, mixing[..., None, None])
    ),
    "heads mixed by einsum": talking_heads(lambda w, m: torch.einsum("bhij,hg->bgij", w, m)),
    "weights times weights": by(lambda a: a.softmax(-1) @ a.softmax(-1)),
}


@pytest.mark.parametrize("name", WEIGHING)
def test_weights_get_no_relevance(name: str) -> None:
    """It is as if query and key were constants."""
    model = WEIGHING[name]
    ours = assert_conserved(EXACT, model, images())
    attend, constant = model.attend, Attending(model.attend)
    constant.attend = lambda q, k, v: attend(held(q), held(k), v)
    torch.testing.assert_close(ours, relevance(EXACT, constant))


def test_a_sum_over_groups_has_no_rule_where_nothing_is_a_gate() -> None:
    report = heatmaps.check(by(over_nodes), images(), AttnLRP(1e-12))
    assert report.without_rule == ("div of an exponential by a sum over groups",)


def test_features_of_a_sigmoid_layer_are_no_gates() -> None:
    """A linear layer makes signals of gates, unless these are attention weights."""
    layer = nn.Linear(8, 8).double().requires_grad_(False)
    model = Attending(lambda q, k, v: layer(q.sigmoid()) * v)
    ours = LRPEpsilon()(model, images(), torch.tensor([0, 1]))
    constant = Attending(lambda q, k, v: held(layer(q.sigmoid())) * v)
    assert not torch.allclose(ours, relevance(LRPEpsilon(), constant))


@pytest.mark.parametrize("heatmap", [EXACT, AttnLRP()], ids=["LRP", "AttnLRP"])
def test_at_the_end_of_a_network_it_is_passed_by(heatmap: Heatmap) -> None:
    logits = by(lambda a: a.softmax(-1))
    probabilities = nn.Sequential(logits, Apply(lambda z: z.log_softmax(1).exp()))
    ours, expected = (relevance(heatmap, model) for model in (probabilities, logits))
    torch.testing.assert_close(ours, expected)
