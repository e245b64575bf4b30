"""Token ids: words that a network sees as zeros or not at all, and word vectors in their place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aopc_monitor.network.asked import AskedNetwork, asked_for
from aopc_monitor.network.embedded_network import EmbeddedNetwork
from aopc_monitor.network.further_inputs import Place
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.token_marks import ShortDocumentError, left_out, zeroed
from aopc_monitor.network.word_vectors import NoEmbeddingError, WordVectors

IDS = torch.tensor([[1, 5, 7, 2, 9], [3, 3, 8, 0, 4]])
MARKED = torch.tensor([[False, True, False, False, True], [True, True, False, False, False]])


class Words(nn.Module):
    """A network of ids: (N, T) to (N, 3), the mean of words over those that the mask keeps."""

    def __init__(self, look_up: str = "module") -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 3)
        self.look_up = look_up
        self.double()

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        weight = self.table.weight
        vectors = {
            "module": lambda: self.table(ids),
            "function": lambda: F.embedding(input=ids, weight=weight),
            "torch": lambda: torch.embedding(weight, ids),
            "index": lambda: weight[ids],
            "time first": lambda: self.table(ids.t()).transpose(0, 1),
            "copied": lambda: self.table(ids.clone().int()),
            "one-hot": lambda: F.one_hot(ids, 10).double() @ weight,
        }[self.look_up]()
        mask = torch.ones_like(ids) if mask is None else mask
        mean = (vectors * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        positions = torch.arange(ids.shape[1], device=ids.device, dtype=vectors.dtype)
        return self.head(mean + 0.1 * (vectors * positions[:, None]).sum(dim=1).tanh())


def words(look_up: str = "module") -> Words:
    torch.manual_seed(0)
    return Words(look_up).eval()


def by_hand(network: Words, ids: Tensor, marked: Tensor) -> Tensor:
    """The answer with the vectors of marked tokens at zero."""
    vectors = network.table(ids) * ~marked[..., None]
    positions = torch.arange(ids.shape[1], dtype=vectors.dtype)[:, None]
    moved = 0.1 * (vectors * positions).sum(dim=1).tanh()
    return network.head(vectors.mean(dim=1) + moved)


@pytest.mark.parametrize("way", ["module", "function", "torch", "index", "time first", "copied"])
def test_zeroed_tokens_are_vectors_of_zeros(way: str) -> None:
    network = words(way)
    marked = torch.where(MARKED, zeroed(IDS), IDS)
    expected = by_hand(network, IDS, MARKED)
    torch.testing.assert_close(AskedNetwork(network)(marked), expected)
    assert not torch.allclose(expected, network(IDS))


def test_ids_without_marks_are_asked_as_they_are() -> None:
    network = words("one-hot")
    assert torch.equal(AskedNetwork(network)(IDS), network(IDS))


def test_a_network_that_looks_up_no_vectors_is_named() -> None:
    with pytest.raises(NoEmbeddingError, match=r'take replacement="left_out" or MaskToken'):
        AskedNetwork(words("one-hot"))(zeroed(IDS))
    with pytest.raises(NoEmbeddingError):
        EmbeddedNetwork(words("one-hot"), IDS).vectors()


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_left_out_tokens_are_not_there(kind: torch.dtype) -> None:
    network, ids = words(), IDS.to(kind)
    found = AskedNetwork(network)(torch.where(MARKED, left_out(ids), ids))
    for n, row in enumerate(ids):
        torch.testing.assert_close(found[n], network(row[~MARKED[n]][None])[0])


def test_further_inputs_lose_the_same_columns() -> None:
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    ids = torch.cat([IDS, IDS[:1]])
    lost = torch.cat([MARKED, MARKED[1:]])
    network = words()
    inputs = {"mask": mask, "ids": Place.FIRST}
    found = AskedNetwork(network, inputs=inputs)(torch.where(lost, left_out(ids), ids))
    for n, row in enumerate(ids):
        kept = ~lost[n]
        torch.testing.assert_close(found[n], network(row[kept][None], mask[n][kept][None])[0])


def test_both_marks_in_one_document() -> None:
    network = words()
    marked = IDS.clone()
    marked[:, 1], marked[:, 3] = zeroed(IDS[:, 1]), left_out(IDS[:, 3])
    kept = [0, 1, 2, 4]
    is_zero = torch.tensor([False, True, False, False]).expand(2, -1)
    expected = by_hand(network, IDS[:, kept], is_zero)
    torch.testing.assert_close(AskedNetwork(network)(marked), expected)


def test_documents_of_which_nothing_is_left() -> None:
    with pytest.raises(ShortDocumentError, match="nothing is left of it: take fewer steps"):
        AskedNetwork(words())(left_out(IDS))


def test_documents_that_are_too_short_for_the_network() -> None:
    network = nn.Sequential(nn.Embedding(10, 5), nn.Conv1d(5, 3, 3), nn.Flatten(), nn.Linear(9, 2))
    marked = torch.where(MARKED, left_out(IDS), IDS)
    with pytest.raises(ShortDocumentError, match="makes 3 tokens of a document of 5, and the mod"):
        AskedNetwork(network)(marked)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 3])
def test_bags_of_words(mode: str, padding: int | None) -> None:
    torch.manual_seed(0)
    bag = nn.EmbeddingBag(10, 4, mode=mode, padding_idx=padding).double()
    network = nn.Sequential(bag, nn.Linear(4, 2).double())
    torch.testing.assert_close(AskedNetwork(network)(IDS), network(IDS))
    found = AskedNetwork(network)(torch.where(MARKED, zeroed(IDS), IDS))
    # A row of the table that is zero, in the place of each marked word, counts as it did.
    table = torch.cat([bag.weight.detach(), torch.zeros(1, 4, dtype=torch.float64)])
    counted = torch.where(MARKED & ((IDS != 3) | (padding is None)), 10, IDS)
    expected = F.embedding_bag(counted, table, mode=mode, padding_idx=padding)
    torch.testing.assert_close(found, network[1](expected))


def test_a_table_that_shortens_its_vectors_is_not_written_to() -> None:
    torch.manual_seed(0)
    table = nn.Embedding(10, 4, max_norm=0.5).double()
    network = nn.Sequential(table, nn.Flatten(), nn.Linear(20, 2).double())
    before = table.weight.detach().clone()
    with untouched(network):
        found = AskedNetwork(network)(IDS)
    assert torch.equal(table.weight, before)
    torch.testing.assert_close(found, network(IDS))  # which writes to it
    assert not torch.equal(table.weight, before)


def test_only_the_first_embedding_of_the_ids_is_changed() -> None:
    table = nn.Embedding(10, 2)
    with WordVectors(IDS, torch.zeros_like) as mode:
        of_others = table(9 - IDS)
        first, second = table(IDS), table(IDS)
    assert mode.found
    assert torch.equal(of_others, table(9 - IDS))
    assert torch.equal(second, table(IDS))
    assert not first.any()


def test_vectors_in_the_place_of_ids() -> None:
    network = words()
    embedded = EmbeddedNetwork(network, IDS)
    vectors = embedded.vectors()
    assert torch.equal(vectors, network.table(IDS).transpose(1, 2))
    vectors = vectors.masked_fill(MARKED[:, None], 0.0).requires_grad_()
    torch.testing.assert_close(embedded(vectors), by_hand(network, IDS, MARKED))
    (gradient,) = torch.autograd.grad(embedded(vectors).sum(), vectors)
    assert gradient.any(dim=1).all()
    assert torch.equal(embedded.of(1, 2)(vectors[1:]), embedded(vectors)[1:])


def test_several_copies_of_one_document() -> None:
    embedded = EmbeddedNetwork(words(), IDS).of(0, 1)
    vectors = embedded.vectors().expand(4, -1, -1)
    torch.testing.assert_close(embedded(vectors), words()(IDS[:1]).expand(4, -1))
    with pytest.raises(ValueError, match="2 rows, and the network is asked for 3"):
        EmbeddedNetwork(words(), IDS)(vectors[:3])


def test_nothing_is_found_out_of_ids_that_are_no_ids() -> None:
    """What a network is asked beforehand are ids that came in, in other orders."""
    seen: list[Tensor] = []
    network = words()
    network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    asked = asked_for(network, IDS[:1], "probability")
    assert isinstance(asked.network, AskedNetwork)
    assert asked.refused is None
    assert all(set(ids.flatten().tolist()) == set(IDS[0].tolist()) for ids in seen)


def test_a_network_that_is_called_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = words()

        def forward(self, **batch: Any) -> Tensor:
            return self.inner(batch["input_ids"], batch["attention_mask"])

    inputs = {"input_ids": Place.FIRST, "attention_mask": torch.ones_like(IDS)}
    marked = torch.where(MARKED, zeroed(IDS), IDS)
    found = AskedNetwork(Named(), inputs=inputs)(marked)
    torch.testing.assert_close(found, by_hand(words(), IDS, MARKED))
