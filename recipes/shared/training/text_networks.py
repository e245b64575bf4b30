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
    ) -> None:
        super().__init__()
        self.vectors = nn.Embedding(num_words, dimensions, padding_idx=PADDING)
        self.convolution = nn.Conv1d(dimensions, features, width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(features, num_classes)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits (N, num_classes) of numbers of words (N, T); vectors of padding are zero."""
        vectors = self.vectors(input_ids).transpose(1, 2)
        features = F.relu(self.convolution(vectors)).amax(dim=2)
        logits: Tensor = self.output(self.dropout(features))
        return logits
