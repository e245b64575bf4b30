#!/usr/bin/env bash
# openvino 2026.4.1: where memory does not suffice for a batch, the answer is that of an earlier batch, without an error.
#
# A compiled model on the CPU is asked for a batch that takes more memory than the process may have. With one thread
# it neither raises nor warns: it returns what the output tensor held before, of the earlier batch and of its size.
# With two threads it raised "Failed to allocate ... bytes of memory".
#
# Seen: a batch of 512 returned 32 rows, those of the batch before.
# What it means for users of this library: `backend="openvino"` hands over an output tensor that is filled with a number
# that no network returns, and takes what still holds it for a lack of memory: the chunk is halved.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "openvino==2026.4.1" "torch==2.14.1" "numpy<3"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import resource
from pathlib import Path

import openvino
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
images = torch.randn(512, 3, 64, 64)
network = nn.Sequential(
    nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
).eval()
with torch.no_grad():
    expected = torch.cat([network(few) for few in images.split(32)])
    model = openvino.convert_model(network, example_input=images[:2])
settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
compiled = openvino.compile_model(model, "CPU", settings)


def answer(of):
    return torch.from_numpy(compiled(of.numpy())[0].copy())


first = answer(images[:32])
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 60 * 2**20,) * 2)
too_many = answer(images)
print("openvino", openvino.__version__.split("-")[0])
print(f"{len(images)} images: {len(too_many)} rows, {float((too_many - first).abs().max()):.2g} from those of the batch before")
assert (first - expected[:32]).abs().max() < 1e-4
assert len(too_many) == 32
assert torch.equal(too_many, first)
PYTHON
