"""AOPC of a network that FSDP2 spreads over two processes: `python docs/examples/fabric_fsdp2.py`.

Fabric starts the second process. The data and the network are those of `plain_torch.py`.
"""

from __future__ import annotations

import torch
from plain_torch import aopc_metric, small_network, striped_patches
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

try:
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import ModelParallelStrategy
except ModuleNotFoundError:  # which come with pytorch-lightning under another name
    from lightning_fabric import Fabric  # type: ignore[assignment]
    from lightning_fabric.strategies import ModelParallelStrategy  # type: ignore[assignment]

PROCESSES = 2


def sharded(network: nn.Module, mesh: torch.distributed.DeviceMesh) -> nn.Module:
    """Each layer that has parameters by itself, and last the network around them."""
    for layer in network.children():
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mesh=mesh["data_parallel"])
    fully_shard(network, mesh=mesh["data_parallel"])
    return network


def main(look_every: int = 20) -> nn.Module:
    """Train for 100 steps and look every so many; with 0 never, which trains the same network."""
    strategy = ModelParallelStrategy(sharded, data_parallel_size=PROCESSES, tensor_parallel_size=1)
    fabric = Fabric(accelerator="cpu", devices=PROCESSES, strategy=strategy)
    fabric.launch()
    fabric.seed_everything(0, verbose=False)
    data = TensorDataset(*striped_patches(3200, seed=0))
    loader = fabric.setup_dataloaders(DataLoader(data, batch_size=16, shuffle=True))
    network = small_network()
    model = fabric.setup(network)
    optimizer = fabric.setup_optimizers(torch.optim.SGD(model.parameters(), lr=0.01))
    # Each process takes as many images as the other: in a forward they wait for each other.
    probe, _ = striped_patches(64, seed=1)
    share = probe[fabric.global_rank :: PROCESSES]
    by_relevance, by_chance = aopc_metric("lrp"), aopc_metric("random")

    for step, (images, labels) in enumerate(loader, start=1):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        fabric.backward(loss)
        optimizer.step()

        if look_every and step % look_every == 0:
            # Values of the images of both, the same on both.
            aopc, control = by_relevance(model, share), by_chance(model, share)
            fabric.print(f"step {step:3d}  AOPC {aopc:.3f}  random {control:.3f}")
    return network


if __name__ == "__main__":
    main()
