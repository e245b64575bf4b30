"""Private random numbers: tied to a seed and to the images, never to the global generators."""

from __future__ import annotations

import hashlib
import zlib

import numpy as np
import torch
from torch import Tensor


def uniform_numbers(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Independent uniform random numbers between 0 and 1, float32, on the generator's device.

    On a CPU they have 65,536 levels, where pixels have 256: numbers of full precision take three
    times as long, which is felt beside a small network.

    Args:
        shape: of the result.
        generator: where they come from.

    Example:
        >>> numbers = uniform_numbers(torch.Size([1000]), torch.Generator().manual_seed(0))
        >>> round(float(numbers.mean()), 1), bool((numbers > 0).all()), bool((numbers < 1).all())
        (0.5, True, True)
    """
    if generator.device.type != "cpu":
        return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float32)
    count, levels = shape.numel(), 2**16
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    whole = words.view(torch.int16)[:count].view(shape)  # from -levels / 2 on
    return whole.to(torch.float32).add_((levels + 1) / 2).mul_(1 / levels)  # exact


def seed_from(generator: torch.Generator) -> int:
    """A seed for another generator, from 0 to 2**62; each call gives a new one.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> seed_from(generator) == seed_from(generator)
        False
    """
    if generator.device.type == "cpu":
        return int(torch.randint(2**62, (), generator=generator, device="cpu"))
    return seed_of_state(generator)


def seed_of_state(generator: torch.Generator) -> int:
    """A seed from a generator's state, which is on the host and changes by it.

    A number that was drawn on an accelerator would have to be waited for.
    """
    state = generator.get_state().numpy().tobytes()
    torch.rand(1, generator=generator, device=generator.device)  # the next state is another one
    return int.from_bytes(hashlib.blake2b(state, digest_size=8).digest(), "little") % 2**62


def content_of(images: Tensor) -> int:
    """A number that tells batches of images apart: the checksum of their bytes.

    Example:
        >>> content_of(torch.zeros(2)) == content_of(torch.ones(2))
        False
    """
    return zlib.crc32(images.detach().cpu().contiguous().view(torch.uint8).numpy().data)


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
    words = np.random.SeedSequence([seed, content_of(images), zlib.crc32(purpose.encode())])
    # 63 bits: manual_seed takes a signed number on every backend.
    key = int(words.generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device=images.device).manual_seed(key)
