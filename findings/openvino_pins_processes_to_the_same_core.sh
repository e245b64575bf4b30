#!/usr/bin/env bash
# openvino 2026.4.1: two processes that ask for one thread each work on the same core, and the others stay idle.
#
# On Linux, a compiled model fixes its threads to cores, and every process begins with the same ones: it knows nothing
# of its neighbours. Each of two evaluations that were given a thread of their own then takes twice as long as alone, on
# a machine with cores to spare. So do the processes of a distributed run. With `ENABLE_CPU_PINNING` off, the system
# gives each one a core.
#
# Seen on 2 cores: both on core 0, 0.45 and 0.45 of the calls of one process alone; without pinning 0.80 and 0.80.
# What it means for users of this library: `backend="openvino"` does not pin
# (`network/backends/openvino_conversion.py`).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "openvino==2026.4.1" "numpy<3"
cat > "$folder/work.py" <<'PYTHON'
import os
import pathlib
import sys
import time

import numpy as np
import openvino
from openvino import opset13 as ops

pinned, begin, seconds = sys.argv[1] == "pinned", float(sys.argv[2]), 4
images = ops.parameter([4, 32, 56, 56], dtype=np.float32)
maps, random = images, np.random.default_rng(0)
for _ in range(4):
    weights = ops.constant(random.normal(size=(32, 32, 3, 3)).astype(np.float32))
    maps = ops.relu(ops.convolution(maps, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
if not pinned:
    settings["ENABLE_CPU_PINNING"] = False
request = openvino.compile_model(openvino.Model([maps], [images]), "CPU", settings).create_infer_request()
given = random.normal(size=(4, 32, 56, 56)).astype(np.float32)
request.infer(given)
time.sleep(max(0.0, begin - time.time()))
calls, until = 0, time.time() + seconds
while time.time() < until:
    request.infer(given)
    calls += 1
# Of the thread that worked most: on which core it was last.
times = [(int(f[13]), f[38]) for task in pathlib.Path("/proc/self/task").iterdir()
         for f in [(task / "stat").read_text().split()]]
print(calls / seconds, max(times)[1])
PYTHON
"$folder/venv/bin/python" - "$folder/work.py" <<'PYTHON'
import os
import subprocess
import sys
import time

if len(os.sched_getaffinity(0)) < 2:
    raise SystemExit("a single core: there is nothing to share")


def run(how, count):
    """Calls in a second of so many processes at once, and the core of each."""
    command = [sys.executable, sys.argv[1], how, str(time.time() + 4)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    found = [process.communicate()[0].split() for process in processes]
    return [float(calls) for calls, _ in found], [core for _, core in found]


(alone,), _ = run("pinned", 1)
pinned, cores = run("pinned", 2)
free, free_cores = run("not", 2)
print("cores of two processes:", *cores, "and without pinning", *free_cores)
print("calls, of those of one process alone:", *[f"{calls / alone:.2f}" for calls in pinned],
      "and without pinning", *[f"{calls / alone:.2f}" for calls in free])
assert cores[0] == cores[1]
assert sum(pinned) < 1.2 * alone < 0.8 * sum(free)
PYTHON
