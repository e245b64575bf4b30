"""Attention: ways to write it, conserved relevance, and AttnLRP against the package lxt."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor.heatmaps import AttnLRP, Heatmap
from tests.heatmaps.networks import Apply
from tests.heatmaps.rules.test_products import METHODS, assert_same, conserved, images


class Attention(nn.Module):
    """Self-attention with two heads among the 36 pixels of (N, 6, 6, 6), in several ways."""

    def __init__(self, way: str, mask: Tensor | None = None, *, bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.way = way
        self.mask = mask
        self.attention = nn.MultiheadAttention(
            6, 2, batch_first=True, bias=bias, dtype=torch.double
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).mT
        if self.way.startswith("module"):
            attended = self.by_module(tokens)
        else:
            joint = F.linear(tokens, self.attention.in_proj_weight, self.attention.in_proj_bias)
            heads = (t.unflatten(-1, (2, 3)).transpose(1, 2) for t in joint.chunk(3, dim=-1))
            attended = getattr(self, self.way)(*heads).transpose(1, 2).flatten(2)
            attended = self.attention.out_proj(attended)
        return (tokens + attended).mT.reshape(x.shape)

    def by_module(self, tokens: Tensor) -> Tensor:
        attention = self.attention
        attention.batch_first = "first" in self.way
        given = tokens if attention.batch_first else tokens.transpose(0, 1)
        needed = "weights" in self.way
        attended, _ = attention(given, given, given, need_weights=needed, attn_mask=self.mask)
        return attended if attention.batch_first else attended.transpose(0, 1)  # type: ignore[no-any-return]

    def by_function(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = None if self.mask is None else ~self.mask
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def by_matmul(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = self.masked(q @ k.transpose(-2, -1) / math.sqrt(3)).softmax(dim=-1)
        return weights @ v

    def by_bmm(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.flatten(0, 1) for t in (q, k, v))
        scores = self.masked(torch.baddbmm(q.new_zeros(1), q, k.mT, beta=0, alpha=3**-0.5))
        return torch.bmm(F.softmax(scores, -1), v).unflatten(0, (-1, 2))

    def by_einsum(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.einsum("nhqd,nhkd->nhqk", q * 3**-0.5, k)
        weights = F.dropout(torch.softmax(self.masked(scores), dim=-1), 0.5, training=False)
        return torch.einsum("nhqk,nhkd->nhqd", weights, v)

    def masked(self, scores: Tensor) -> Tensor:
        return scores if self.mask is None else scores.masked_fill(self.mask, -math.inf)


# A causal mask: each pixel sees itself and those before it.
MASK = torch.ones(36, 36, dtype=torch.bool).triu(1)
WAYS = (
    "module first", "module first weights", "module", "module weights", "by_matmul", "by_bmm",
    "by_einsum",
)  # fmt: skip


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "causal"])
@pytest.mark.parametrize("way", ["by_function", *WAYS])
def test_attention_conserves_relevance(way: str, mask: Tensor | None) -> None:
    """Not so under AttnLRP, whose softmax has a share that belongs to no input (eq. 13)."""
    conserved(METHODS[0], Attention(way, mask))


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "causal"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_way_of_writing_attention_does_not_matter(
    method: Heatmap, way: str, mask: Tensor | None
) -> None:
    one, other = (Attention(w, mask, bias=True) for w in ("by_function", way))
    assert_same(method, one, other)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_transformer_layers_conserve_relevance(
    norm_first: bool, activation: str, batch_first: bool
) -> None:
    torch.manual_seed(2)
    layer = nn.TransformerEncoderLayer(
        6, 2, 12, activation=activation, norm_first=norm_first, batch_first=batch_first
    )

    def of_pixels(x: Tensor) -> Tensor:
        tokens = x.flatten(2).permute((0, 2, 1) if batch_first else (2, 0, 1))
        return layer(tokens).permute((0, 2, 1) if batch_first else (1, 2, 0)).reshape(x.shape)  # type: ignore[no-any-return]

    middle = Apply(of_pixels)
    middle.layer = layer
    conserved(METHODS[0], middle)


def lxt_rules() -> Any:
    """The rule functions of lxt; the package itself asks for an older transformers."""
    found = importlib.util.find_spec("lxt")
    if found is None or found.origin is None:
        pytest.skip("lxt is not installed")
    path = Path(found.origin).parent / "efficient" / "rules.py"
    spec = importlib.util.spec_from_file_location("lxt_rules", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Block(nn.Module):
    """A transformer on patches of (N, 3, 8, 8); with lxt's rules written into it, if given."""

    def __init__(self, rules: Any = None) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.rules = rules
        self.embed = nn.Conv2d(3, 8, 2, stride=2)
        self.position = nn.Parameter(torch.randn(1, 16, 8))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.gate, self.down = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 4)
        for norm in self.norms:
            nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT + self.position
        x = x + self.attend(self.norm(0, x))
        x = x + self.mlp(self.norm(1, x))
        return self.head(self.norm(2, x).mean(dim=1))  # type: ignore[no-any-return]

    def norm(self, number: int, x: Tensor) -> Tensor:
        layer = self.norms[number]
        if self.rules is None:
            return layer(x)  # type: ignore[no-any-return]
        variance = (x - x.mean(-1, keepdim=True)).square().mean(-1, keepdim=True)
        std = self.rules.stop_gradient((variance + layer.eps).sqrt())
        return (x - x.mean(-1, keepdim=True)) / std * layer.weight + layer.bias  # type: ignore[no-any-return]

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        if self.rules is not None:
            q, k, v = (
                self.rules.divide_gradient(t, n) for t, n in zip((q, k, v), (4, 4, 2), strict=True)
            )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def mlp(self, x: Tensor) -> Tensor:
        gate, up = self.gate(x), self.up(x)
        if self.rules is None:
            return self.down(F.silu(gate) * up)  # type: ignore[no-any-return]
        gate = self.rules.identity_rule_implicit(F.silu, gate)
        return self.down(self.rules.divide_gradient(gate * up, 2))  # type: ignore[no-any-return]


def test_attnlrp_agrees_with_lxt() -> None:
    theirs, ours = Block(lxt_rules()).eval(), Block().eval()
    x, target = images().requires_grad_(), torch.tensor([0, 3])
    scores = theirs(x).gather(1, target[:, None])
    torch.testing.assert_close(scores, ours(x).gather(1, target[:, None]))
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    expected = (x * gradient).sum(1).detach()
    result = AttnLRP(1e-12)(ours, x.detach(), target)
    assert float((result - expected).norm() / expected.norm()) < 1e-6


class LookedUpPositions(Attention):
    """A bias of the logits that depends on the queries, as in SAM (Kirillov et al. 2023)."""

    def __init__(self, way: str) -> None:
        super().__init__(way)
        self.positions = nn.Parameter(torch.randn(36, 3, dtype=torch.double))

    def bias(self, q: Tensor) -> Tensor:
        return q @ self.positions.T

    def by_function(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias(q))

    def by_position(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, self.bias(q), 0.0)

    def by_matmul(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT / math.sqrt(3) + self.bias(q)).softmax(dim=-1) @ v


def test_a_bias_of_the_logits_that_depends_on_the_images_weighs_the_values() -> None:
    conserved(METHODS[0], LookedUpPositions("by_function"))


@pytest.mark.parametrize("way", ["by_position", "by_matmul"])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_way_of_writing_such_a_bias_does_not_matter(method: Heatmap, way: str) -> None:
    assert_same(method, LookedUpPositions("by_function"), LookedUpPositions(way))
