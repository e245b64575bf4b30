"""Which networks, images and precisions are measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recipes.shared.training.networks import build


@dataclass(frozen=True)
class Subject:
    """A network, and how much of it is measured.

    Attributes:
        network: its name.
        side: height and width of its images in pixels.
        images: how many are perturbed.
        steps: L of the full curve.
        batch_sizes: of bare forwards; the best one is taken.
        seconds: what a row about it takes on a data-centre GPU, roughly.
    """

    network: str
    side: int
    images: int
    steps: int
    batch_sizes: tuple[int, ...]
    seconds: float

    @property
    def region_size(self) -> int:
        """Side of the regions in pixels."""
        return 9 if self.side == 224 else 4

    def model(self, device: torch.device, channels_last: bool = False) -> nn.Module:
        """The network in eval mode, with random weights that are always the same."""
        torch.manual_seed(0)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        model = build(self.network, 10, self.side).eval()
        moved: nn.Module = model.to(device, memory_format=layout)  # type: ignore[call-overload]
        return moved

    def some_images(self, count: int, device: torch.device, channels_last: bool = False) -> Tensor:
        """Random images in [0, 1]."""
        generator = torch.Generator(device).manual_seed(1)
        shape = (count, 3, self.side, self.side)
        images = torch.rand(shape, generator=generator, device=device)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return images.contiguous(memory_format=layout)


LARGE = (64, 128, 256)
FULL = (
    Subject("small_cnn", 32, 256, 32, (512, 1024, 4096), 3.0),
    Subject("resnet50", 224, 16, 32, LARGE, 6.0),
    Subject("resnet18", 224, 32, 32, LARGE, 5.0),
    Subject("vit_b_16", 224, 16, 32, LARGE, 6.0),
    Subject("convnext_tiny", 224, 16, 32, LARGE, 6.0),
)
# One whose layers every library knows.
OF_PEERS = Subject("resnet18", 32, 2, 8, (8,), 0.5)
QUICK = (
    Subject("small_cnn", 16, 2, 8, (8,), 0.5),
    Subject("small_resnet", 16, 2, 8, (8,), 0.5),
)


@dataclass(frozen=True)
class Precision:
    """How products are rounded.

    Attributes:
        autocast: what forwards are cast to.
        tf32: whether products in float32 may be rounded to TF32.
        needs_cuda: whether it makes sense on CUDA alone.
    """

    autocast: torch.dtype | None
    tf32: bool
    needs_cuda: bool

    @contextmanager
    def set(self) -> Iterator[None]:
        """Allow TF32 or not; as it was afterwards."""
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        before = matmul.allow_tf32, cudnn.allow_tf32
        matmul.allow_tf32 = cudnn.allow_tf32 = self.tf32
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = before

    def cast(self, device: torch.device) -> AbstractContextManager[object]:
        """Autocast for a bare forward."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.autocast)


PRECISIONS = {
    "float32": Precision(None, tf32=False, needs_cuda=False),
    "TF32": Precision(None, tf32=True, needs_cuda=True),
    "bfloat16": Precision(torch.bfloat16, tf32=False, needs_cuda=False),
    "float16": Precision(torch.float16, tf32=False, needs_cuda=True),
}


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        device: on what.
        quick: whether everything is tiny, only to see that it runs.
    """

    device: torch.device
    quick: bool

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """The networks."""
        return QUICK if self.quick else FULL

    def named(self, name: str) -> Subject:
        """A network by its name; where everything is tiny, one that stands for it."""
        return next((s for s in self.subjects if s.network == name), self.subjects[-1])

    def several(self, *names: str) -> list[Subject]:
        """Networks by their names, each once."""
        return list(dict.fromkeys(map(self.named, names)))

    @property
    def at_least(self) -> float:
        """Seconds that are measured at least."""
        return 0.0 if self.quick else 0.15
