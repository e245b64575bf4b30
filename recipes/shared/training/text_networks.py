"""Networks that sort texts."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from recipes.shared.data.labelled_texts import PADDING


class TextCNN(nn.Module):
    """Word vectors, one convolution over pairs of words, the maximum over the text, one layer.

    The network of Arras et al. 2016 (section 2), with word vectors that are trained with it: theirs
    were word2vec's, and their convolution had 800 features.

    Args:
        num_words: size of the vocabulary.
        num_classes: number of logits.
        dimensions: of a word vector.
        features: of the convolution.
        width: words that the convolution sees at once.
        dropout: share of the features that a training step leaves out.
        pooled: whether the maximum is max pooling, which DeepLIFT has a rule for. Of equal maxima
            the first then gets all relevance, which they share otherwise.

    Example:
        >>> import torch
        >>> TextCNN(num_words=50, num_classes=5)(torch.randint(50, (2, 30))).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        num_words: int,
        num_classes: int,
        dimensions: int = 128,
        features: int = 256,
        width: int = 2,
        dropout: float = 0.5,
        pooled: bool = False,
    ) -> None:
        super().__init__()
        self.pooled = pooled
        self.vectors = nn.Embedding(num_words, dimensions, padding_idx=PADDING)
        self.convolution = nn.Conv1d(dimensions, features, width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(features, num_classes)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits (N, num_classes) of numbers of words (N, T); vectors of padding are zero."""
        vectors = self.vectors(input_ids).transpose(1, 2)
        features = F.relu(self.convolution(vectors))
        features = _pooled(features) if self.pooled else features.amax(dim=2)
        logits: Tensor = self.output(self.dropout(features))
        return logits


class TextLSTM(nn.Module):
    """Word vectors, one LSTM, the maximum of each of its states over the text, one layer.

    Args:
        num_words: size of the vocabulary.
        num_classes: number of logits.
        dimensions: of a word vector.
        width: of the hidden state.

    Example:
        >>> import torch
        >>> TextLSTM(num_words=50, num_classes=5)(torch.randint(50, (2, 30))).shape
        torch.Size([2, 5])
    """

    def __init__(
        self, num_words: int, num_classes: int, dimensions: int = 64, width: int = 64
    ) -> None:
        super().__init__()
        self.vectors = nn.Embedding(num_words, dimensions, padding_idx=PADDING)
        self.recurrent = nn.LSTM(dimensions, width, batch_first=True)
        self.output = nn.Linear(width, num_classes)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits (N, num_classes) of numbers of words (N, T); vectors of padding are zero."""
        states, _ = self.recurrent(self.vectors(input_ids))
        logits: Tensor = self.output(_pooled(states.transpose(1, 2)))
        return logits


def _pooled(features: Tensor) -> Tensor:
    """(N, F) maxima of features (N, F, T) over the text."""
    return F.adaptive_max_pool1d(features, 1).flatten(1)
