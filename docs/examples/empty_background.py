"""Digits on black, where uniform noise hurts most: `python docs/examples/empty_background.py`.

A pixel of zero gets no relevance from LRP, so that noise comes there last; but there it makes an
image that the network has never seen. A replacement that keeps the background does not.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor import AOPC
from aopc_monitor.perturbation import Constant

TEST_DIGITS = 397


def digits_on_black() -> tuple[Tensor, Tensor]:
    """All 1,797 digits of scikit-learn, 20 pixels high, anywhere on black images of 32 x 32."""
    source = load_digits()
    shapes = torch.from_numpy(source.images).float()[:, None] / 16
    digits = F.interpolate(shapes, size=(20, 20), mode="bilinear")
    images = torch.zeros(len(digits), 1, 32, 32)
    corners = torch.randint(0, 13, (len(digits), 2)).tolist()
    for image, digit, (top, left) in zip(images, digits, corners, strict=True):
        image[:, top : top + 20, left : left + 20] = digit
    order = torch.randperm(len(digits))
    return images[order], torch.from_numpy(source.target)[order]


def trained_network(images: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """Two convolutions, after some epochs of batches of 50."""
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(4)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(512, 10)),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model.eval()


def main(epochs: int = 20) -> None:
    """Train, and measure LRP and a random order under noise and under black."""
    torch.manual_seed(0)
    images, labels = digits_on_black()
    model = trained_network(images[TEST_DIGITS:], labels[TEST_DIGITS:], epochs)
    images, labels = images[:TEST_DIGITS], labels[:TEST_DIGITS]
    with torch.no_grad():
        right = (model(images).argmax(dim=1) == labels).float().mean()
    print(f"accuracy {right:.3f}")
    for name, replacement in (("uniform noise", "uniform"), ("black", Constant(0.0))):
        for heatmap in ("lrp", "random"):
            metric = AOPC(
                heatmap, region_size=4, steps=32, data_range=(0.0, 1.0), replacement=replacement
            )
            metric.update(model, images)
            print(f"{name}: {heatmap} {metric.compute():.3f} ± {metric.standard_error():.3f}")


if __name__ == "__main__":
    main()
