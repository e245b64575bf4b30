"""Word vectors: what the first embedding of token ids gives, seen and changed from outside.

A `TorchFunctionMode` sees the call, whether a module made it or a function. Nothing on the network
is hooked or replaced.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Numbers beside a norm that keep a division by it finite, as torch itself has them.
RENORM_EPSILON = 1e-7


class NoEmbeddingError(TypeError):
    """A network never looked up the vectors of the tokens that it was given."""


class WordVectors(TorchFunctionMode):
    """Within this context, the word vectors of some ids are what a function makes of them.

    They are the result of the first call of an embedding whose index holds the ids: `nn.Embedding`,
    `F.embedding`, `weight[ids]`, and `nn.EmbeddingBag` over rows of ids.

    Args:
        ids: (N, T) token ids, as the network is given them.
        change: from vectors (N, T, D) to those that the network goes on with.

    Attributes:
        found: whether there was such a call.

    Example:
        >>> embedding, ids = torch.nn.Embedding(9, 2), torch.tensor([[4, 7]])
        >>> with WordVectors(ids, torch.zeros_like):
        ...     embedding(ids)
        tensor([[[0., 0.],
                 [0., 0.]]])
    """

    def __init__(self, ids: Tensor, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.found = False
        self._ids, self._change = ids, change

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one torch call."""
        kwargs = kwargs or {}
        if func is F.embedding_bag:
            return self._of_bag(_named(func, args, kwargs))
        index = _index_of(func, args, kwargs)
        if index is None:
            return func(*args, **kwargs)
        vectors = _looked_up(func, args, kwargs)
        if self.found:
            return vectors
        if _are_same(index, self._ids):
            self.found = True
            return self._change(vectors)
        if _are_same(index, self._ids.t()):  # a network whose first dimension is time
            self.found = True
            return self._change(vectors.transpose(0, 1)).transpose(0, 1)
        return vectors

    def _of_bag(self, named: dict[str, Any]) -> Tensor:
        """The sum, mean or maximum of the vectors of each row of ids."""
        if self.found or not _are_same(named["input"], self._ids):
            return F.embedding_bag(**named)
        self.found = True
        options = {name: named[name] for name in ("padding_idx", "max_norm", "norm_type")}
        vectors = self._change(_without_writing(named["input"], named["weight"], **options))
        weights, padding = named["per_sample_weights"], named["padding_idx"]
        if weights is not None:
            vectors = vectors * weights[..., None]
        counted = torch.ones_like(self._ids) if padding is None else self._ids != padding
        counted = counted.bool()[..., None]
        if named["mode"] == "max":
            most = vectors.masked_fill(~counted, -torch.inf).amax(dim=1)
            return torch.where(counted.any(dim=1), most, 0.0)
        total = torch.where(counted, vectors, 0.0).sum(dim=1)
        return total if named["mode"] == "sum" else total / counted.sum(dim=1).clamp(min=1)


def _named(func: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    bound = inspect.signature(func).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _index_of(func: Callable[..., Any], args: Any, kwargs: Any) -> Tensor | None:
    """The index of a call that looks vectors up in a table; None of any other."""
    if func is F.embedding:
        index = args[0] if args else kwargs["input"]
    elif func is torch.embedding or func is torch.ops.aten.embedding.default:
        index = args[1] if len(args) > 1 else kwargs["indices"]
    elif func is Tensor.__getitem__ and args[0].ndim == 2 and args[0].is_floating_point():
        index = args[1]
    else:
        return None
    is_index = isinstance(index, Tensor) and not index.is_floating_point()
    return index if is_index and index.dtype != torch.bool else None


def _looked_up(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What the call gives; where it would first write to its weights, without that."""
    if func is not F.embedding:
        return func(*args, **kwargs)
    named = _named(func, args, kwargs)
    if named["max_norm"] is None:
        return func(*args, **kwargs)
    options = {name: named[name] for name in ("padding_idx", "max_norm", "norm_type")}
    return _without_writing(named["input"], named["weight"], **options)


def _without_writing(
    index: Tensor,
    weight: Tensor,
    padding_idx: int | None,
    max_norm: float | None,
    norm_type: float,
) -> Tensor:
    """Vectors of at most some norm; torch would shorten them in the weights themselves."""
    vectors = F.embedding(index, weight, padding_idx)
    if max_norm is None:
        return vectors
    norms = torch.linalg.vector_norm(vectors.detach(), ord=norm_type, dim=-1, keepdim=True)
    return torch.where(norms > max_norm, vectors * (max_norm / (norms + RENORM_EPSILON)), vectors)


def _are_same(index: Tensor, ids: Tensor) -> bool:
    """Whether an index holds these ids; where it is the same memory, without looking at them."""
    if index.shape != ids.shape or index.device != ids.device:
        return False
    is_view = index.dtype == ids.dtype and index.data_ptr() == ids.data_ptr()
    if is_view and index.stride() == ids.stride():
        return True
    return bool((index == ids).all())


def no_embedding() -> NoEmbeddingError:
    """The error of a network that looks up no vectors of its ids."""
    return NoEmbeddingError(
        "the network never looked up the vectors of its token ids (no call of an embedding whose "
        'index is the ids as they were given): take replacement="left_out" or MaskToken(id), which '
        "need none, or give a network that embeds the ids itself"
    )
