"""Small text classifiers and batches of texts that tests share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

PAD, START, END, VOCABULARY = 0, 1, 2, 50
WIDTH, CLASSES = 16, 3


class TextCNN(nn.Module):
    """A convolutional network on word vectors, with the maximum over the words that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH, padding_idx=PAD)
        self.conv = nn.Conv1d(WIDTH, 8, 3, padding=1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.of_vectors(self.table(input_ids), attention_mask)

    def of_vectors(self, vectors: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            mask = torch.ones_like(vectors[..., 0])
        # Padding is zero before and after the convolution, wherever the text ends.
        features = self.conv((vectors * mask[..., None]).transpose(1, 2)).relu()
        return self.head((features * mask[:, None]).amax(dim=2))


class TextLSTM(nn.Module):
    """The last state of an LSTM over the words that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH, padding_idx=PAD)
        self.lstm = nn.LSTM(WIDTH, 8, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.of_vectors(self.table(input_ids), attention_mask)

    def of_vectors(self, vectors: Tensor, mask: Tensor | None) -> Tensor:
        outputs, _ = self.lstm(vectors)
        last = torch.full((len(vectors),), vectors.shape[1]) if mask is None else mask.sum(dim=1)
        return self.head(outputs[torch.arange(len(vectors)), last - 1])


SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64,
    "pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END,
}  # fmt: skip
OTHER_SIZES: dict[str, dict[str, Any]] = {
    "DistilBert": {"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "GPT2": {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "ModernBert": {"cls_token_id": START, "sep_token_id": END},
    "Deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "DebertaV2": {
        "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8,
        "share_att_key": True, "norm_rel_ebd": "layer_norm",
    },
    "Llama": {"num_key_value_heads": 2},
}  # fmt: skip
TRANSFORMERS = (
    *("Bert", "Roberta", "DistilBert", "ModernBert", "Deberta", "DebertaV2", "GPT2", "Llama"),
)


def classifier(name: str) -> nn.Module:
    """A classifier with weights that tell words apart, in double precision."""
    torch.manual_seed(0)
    if name in ("CNN", "LSTM"):
        return {"CNN": TextCNN, "LSTM": TextLSTM}[name]().double().eval()
    transformers = pytest.importorskip("transformers")
    sizes = {**SIZES, **OTHER_SIZES.get(name, {})}
    if name in ("DistilBert", "GPT2"):
        kept = ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")
        sizes = {key: sizes[key] for key in (*kept, *OTHER_SIZES[name])}
    configuration = getattr(transformers, f"{name}Config")(num_labels=CLASSES, **sizes)
    model = getattr(transformers, f"{name}ForSequenceClassification")(configuration)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    return model.double().eval()  # type: ignore[no-any-return]


def texts(lengths: tuple[int, ...] = (9, 6, 4), seed: int = 0) -> dict[str, Any]:
    """Texts of so many tokens each, with a first special token and padding; words of 1 or 2."""
    generator = torch.Generator().manual_seed(seed)
    size = (len(lengths), max(lengths))
    ids = torch.randint(END + 1, VOCABULARY, size, generator=generator)
    ids[:, 0] = START
    is_there = torch.arange(size[1]) < torch.tensor(lengths)[:, None]
    ids = ids.masked_fill(~is_there, PAD)
    words = [[None if t == 0 or t >= n else t // 2 for t in range(size[1])] for n in lengths]
    return {"input_ids": ids, "attention_mask": is_there.long(), "word_ids": words}
