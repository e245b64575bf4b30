#!/usr/bin/env bash
# torch 2.14.1, FSDP2 (`fully_shard`): a weight that is kept from a block's forward keeps its shape and loses its memory.
#
# Inside a forward a block's weight is a whole, plain Parameter. After the forward FSDP2 gives its memory back by resizing
# the storage to 0, while the tensor keeps its shape, so that nothing in the tensor's own size tells that its numbers are
# gone; an operation on it does not end well. Tools that keep weights for a backward pass of their own, that keep the
# block from putting its hook on its outputs (by which the weights come back), or that start a backward pass inside a
# block are bitten.
#
# Seen: "inside: plain, (1024, 1024), 4194304 bytes" and "afterwards: (1024, 1024), 0 bytes".
# What it means for users of this library: hooks of torch.distributed are let through the engine, where relevance starts
# inside of a block a signal of zeros starts from its outputs, too, and FSDP1 is refused (aopc_monitor/network/sharded.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "numpy<3"
cat > "$folder/example.py" <<'PYTHON'
import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.fsdp import fully_shard


def told(weight):
    return f"{tuple(weight.shape)}, {weight.untyped_storage().nbytes()} bytes"


def work(rank):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29617")
    dist.init_process_group("gloo", rank=rank, world_size=2)
    model, kept = nn.Sequential(nn.Linear(1024, 1024)), []
    fully_shard(model[0])
    fully_shard(model)

    def keep(module, _, __):
        kept.append(module.weight)
        if rank == 0:
            kind = "plain" if type(module.weight) is nn.Parameter else type(module.weight)
            print(f"inside: {kind}, {told(module.weight)}", flush=True)

    model[0].register_forward_hook(keep, prepend=True)
    with torch.no_grad():
        model(torch.rand(2, 1024))
    if rank == 0:
        print("afterwards:", told(kept[0]), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(work, nprocs=2)
PYTHON
seen=$("$folder/venv/bin/python" "$folder/example.py" 2>/dev/null)
echo "$seen"
[ "$seen" = $'inside: plain, (1024, 1024), 4194304 bytes\nafterwards: (1024, 1024), 0 bytes' ]
