"""What deleting words does, on a network of which one knows which words it reads."""

import torch
from torch import Tensor, nn

from recipes.shared.data.labelled_texts import LabelledTexts, Vocabulary
from recipes.word_deletion.deletion import Sorted, accuracy_curves, areas

WORDS = ["goal", "market", "the", "of", "day", "a"]


class TwoWords(nn.Module):
    """Sorts by which of the first two words comes more often."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        vectors = torch.zeros(len(vocabulary), 2)
        for topic, number in enumerate(vocabulary.numbers(WORDS[:2])):
            vectors[number, topic] = 1.0
        self.vectors = nn.Embedding.from_pretrained(vectors, freeze=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        found: Tensor = self.vectors(input_ids).sum(dim=1)
        return found


def studied() -> tuple[TwoWords, Sorted]:
    vocabulary = Vocabulary.of([WORDS, WORDS])
    texts = [
        ["the", "goal", "of", "goal", "day", "a"],
        ["a", "market", "market", "of", "the", "day"],
        ["market", "goal", "market", "of", "a", "day"],  # about a goal, which it does not see
    ]
    network = TwoWords(vocabulary).eval()
    labelled = LabelledTexts(texts, [0, 1, 0], vocabulary, length=6)
    return network, Sorted.of(network, labelled, ["lrp", "random"])


def test_relevance_is_in_the_words_that_count() -> None:
    _, found = studied()
    assert found.predicted.tolist() == [0, 1, 1]
    assert (found.relevances["lrp"][0] > 0.5).tolist() == [False, True, False, True, False, False]


def test_accuracy_falls_when_the_words_go_that_it_rests_on() -> None:
    network, found = studied()
    curves = accuracy_curves(network, found, most=2, seed=0)
    assert list(curves["2 documents sorted rightly"]) == ["lrp", "random"]
    # Without its two words the first text is as much of one topic as of the other: the first wins.
    assert curves["2 documents sorted rightly"]["lrp"].tolist() == [1.0, 1.0, 0.5]
    assert curves["1 documents sorted wrongly"]["lrp"][0] == 0.0


def test_areas_need_no_labels_and_are_above_the_random_order() -> None:
    network, found = studied()
    found.texts.labels[:] = 0
    by_heatmap = areas(network, found, steps=6, sampled_steps=6, seed=0)
    assert by_heatmap["lrp"].mean() > by_heatmap["random"].mean()
