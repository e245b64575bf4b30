"""Documents as sums of word vectors."""

import torch

from recipes.word_deletion.document_vectors import document_vectors, projections


def test_sums_are_those_of_a_loop() -> None:
    vectors, weights = torch.randn(4, 6, 3), torch.randn(4, 6)
    found = document_vectors(vectors, weights)
    for row in range(4):
        total = sum(weights[row, t] * vectors[row, t] for t in range(6))
        assert torch.allclose(found[row], total / total.norm(), atol=1e-6)


def test_a_document_without_relevance_is_nowhere() -> None:
    assert document_vectors(torch.randn(1, 3, 2), torch.zeros(1, 3)).tolist() == [[0.0, 0.0]]


def test_relevance_that_finds_the_topic_separates_documents() -> None:
    torch.manual_seed(0)
    topics = [0, 1] * 20
    vectors = torch.randn(40, 8, 5)
    vectors[:, 0] = torch.eye(5)[torch.tensor(topics)] * 3  # the word that tells the topic
    telling = torch.zeros(40, 8)
    telling[:, 0] = 1.0
    found = projections(vectors, {"telling": telling}, topics)
    assert found["telling"].accuracy == 1.0
    assert found["telling"].explained > 0.999
    assert found["uniform"].accuracy < 1.0
    assert found["uniform"].points.shape == (40, 2)
