#!/usr/bin/env bash
# openvino 2026.4.1 beside torch 2.14.1: a softmax of 640 numbers between two calls makes the next one slower.
#
# torch's threads on Linux (the OpenMP of its wheels) do not rest after an operation, but look out for the next one for
# milliseconds, on all cores that torch has. Even the softmax of 64 outputs of 10 classes is spread over threads, though
# a softmax of so few takes microseconds. OpenVINO has threads of its own: each call that comes within that time shares
# the cores with threads that do nothing. With `torch.set_num_threads(1)` around what lies between the calls there is
# nothing to wait for.
#
# Seen on 2 cores: 3.2 ms of processor time after a softmax, while the process sleeps, and 0.1 ms without one; calls of
# a small network took 1.67 times as long with a softmax between them on two threads as on one.
# What it means for users of this library: torch stays on one thread while a converted network is asked
# (`network/threads.py`).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "openvino==2026.4.1" "torch==2.14.1" "numpy<3"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import os
import statistics
import time

import openvino
import torch
from torch import nn

cores = len(os.sched_getaffinity(0))
if cores < 2:
    raise SystemExit("a single core: torch has no other threads here")
torch.manual_seed(0)
torch.set_num_threads(cores)
images, outputs = torch.rand(64, 3, 32, 32), torch.rand(64, 10)
network = nn.Sequential(
    nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
    nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
).eval()
settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": cores}
with torch.no_grad():
    model = openvino.convert_model(network, example_input=images[:2])
request = openvino.compile_model(model, "CPU", settings).create_infer_request()


def spent_asleep(work):
    """Milliseconds of processor time in the 20 ms after a work, the median of several."""
    found = []
    for _ in range(15):
        time.sleep(0.03)
        work()
        began = time.process_time()
        time.sleep(0.02)
        found.append((time.process_time() - began) * 1e3)
    return statistics.median(found)


def call(threads):
    """Milliseconds of a call after a softmax on so many threads, the median of several."""
    found = []
    torch.set_num_threads(threads)
    for _ in range(60):
        outputs.softmax(1)
        began = time.perf_counter()
        request.infer([images.numpy()], share_inputs=True, share_outputs=True)
        found.append((time.perf_counter() - began) * 1e3)
    torch.set_num_threads(cores)
    return statistics.median(found)


outputs.softmax(1)
without, after = spent_asleep(lambda: None), spent_asleep(lambda: outputs.softmax(1))
alone, beside = zip(*[(call(1), call(cores)) for _ in range(5)], strict=True)
ratio = statistics.median(several / one for one, several in zip(alone, beside, strict=True))
print("torch", torch.__version__, "openvino", openvino.__version__.split("-")[0], "cores", cores)
print(f"processor time while asleep: {without:.2f} ms, after a softmax of {outputs.numel()} numbers {after:.2f} ms")
print(f"a call after a softmax on {cores} threads takes {ratio:.2f} times as long as after one on a single thread")
assert without < 0.5 < 1 < after
assert ratio > 1.1
PYTHON
