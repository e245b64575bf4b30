#!/usr/bin/env bash
# torch 2.14.1, FSDP2 (`fully_shard`): whoever reads a weight that it kept from a block's forward ends the process.
#
# Inside a forward a block's weight is a whole, plain Parameter. After the forward FSDP2 gives its memory back by resizing
# the storage to 0, while the tensor keeps its shape. Most operations (clone, product, sum) do not look at the size of the
# storage and read what is no longer there: no exception, SIGSEGV. Tools that keep weights for a backward pass of their
# own, that keep the block from putting its hook on its outputs (by which the weights come back), or that start a backward
# pass inside a block are bitten; FSDP1 leaves such tensors as attributes of modules even between its forwards.
#
# Seen: "inside: plain" and then exit by SIGSEGV.
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


def work(rank):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29617")
    dist.init_process_group("gloo", rank=rank, world_size=2)
    model, kept = nn.Sequential(nn.Linear(1024, 1024)), []
    fully_shard(model[0])
    fully_shard(model)
    model[0].register_forward_hook(lambda module, _, __: kept.append(module.weight), prepend=True)
    with torch.no_grad():
        model(torch.rand(2, 1024))
    if rank == 0:
        print("inside:", "plain" if type(kept[0]) is nn.Parameter else type(kept[0]), flush=True)
    print(float((kept[0].detach() * 2).sum()))


if __name__ == "__main__":
    try:
        mp.spawn(work, nprocs=2)
    except mp.ProcessExitedException as error:
        print(error.signal_name)
PYTHON
seen=$("$folder/venv/bin/python" "$folder/example.py" 2>/dev/null)
echo "$seen"
[ "$seen" = $'inside: plain\nSIGSEGV' ]
