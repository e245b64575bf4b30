"""Documents as sums of their word vectors, weighted by relevance (Arras et al. 2016, section 3).

If the words that a heatmap calls relevant are those of the topic, the documents of a topic lie
together, and two directions tell most of what there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

NEIGHBOURS, FOLDS = 5, 5


def document_vectors(word_vectors: Tensor, weights: Tensor) -> Tensor:
    """(N, D) sums of word vectors, of unit length.

    Args:
        word_vectors: (N, T, D) of each document; zero where there is no word.
        weights: (N, T) such as the relevance of each word.

    Example:
        >>> vectors = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
        >>> document_vectors(vectors, torch.tensor([[3.0, 2.0]]))
        tensor([[0.6000, 0.8000]])
    """
    sums = (word_vectors * weights[..., None]).sum(dim=1)
    lengths = sums.norm(dim=1, keepdim=True)
    return sums / lengths.clamp(min=torch.finfo(sums.dtype).tiny)


@dataclass(frozen=True)
class Projection:
    """Documents as vectors, seen from the two directions in which they differ most.

    Attributes:
        points: (N, 2) first two principal components.
        explained: share of the variance that lies in these two.
        accuracy: how often the topic of a document is that of most of its neighbours among the
            vectors themselves, cross-validated.
    """

    points: NDArray[np.float64]
    explained: float
    accuracy: float

    @classmethod
    def of(cls, vectors: Tensor, topics: Sequence[int]) -> Projection:
        """Project vectors (N, D) of documents of these topics."""
        values = vectors.double().numpy()
        pca = PCA(n_components=2, svd_solver="full")
        points = pca.fit_transform(values)
        neighbours = KNeighborsClassifier(NEIGHBOURS)
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        accuracy = cross_val_score(neighbours, values, list(topics), cv=folds).mean()
        return cls(points, float(pca.explained_variance_ratio_.sum()), float(accuracy))


def projections(
    word_vectors: Tensor, relevances: Mapping[str, Tensor], topics: Sequence[int]
) -> dict[str, Projection]:
    """One for each heatmap, and one of documents whose words all weigh the same, "uniform".

    Args:
        word_vectors: (N, T, D) of each document; zero where there is no word.
        relevances: by heatmap, (N, T).
        topics: of each document.
    """
    uniform = {"uniform": torch.ones(word_vectors.shape[:2])}
    return {
        name: Projection.of(document_vectors(word_vectors, weights), topics)
        for name, weights in {**relevances, **uniform}.items()
    }
