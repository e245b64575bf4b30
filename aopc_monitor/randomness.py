"""Private random numbers: tied to a seed and to the images, never to the global generators."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor


def generator_for(images: Tensor, seed: int, purpose: str = "perturbation") -> torch.Generator:
    """A generator that is the same whenever the same batch of images comes back.

    Differences between two evaluations of the same images then come from the model alone, in
    whatever order, on whichever process and after whatever else the images were evaluated.

    Args:
        images: the batch, any shape and type; its bytes enter the seed.
        seed: the user's seed.
        purpose: keeps streams apart that must be independent of each other.

    Returns:
        A generator on the images' device.

    Example:
        >>> x = torch.zeros(2, 3, 4, 4)
        >>> first, second = (torch.rand(1, generator=generator_for(x, seed=0)) for _ in range(2))
        >>> bool(first == second)
        True
    """
    content = zlib.crc32(images.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    words = np.random.SeedSequence([seed, content, zlib.crc32(purpose.encode())])
    # 63 bits: manual_seed takes a signed number on every backend.
    key = int(words.generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device=images.device).manual_seed(key)
