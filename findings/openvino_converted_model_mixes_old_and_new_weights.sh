#!/usr/bin/env bash
# openvino 2026.4.1: a converted torch network keeps reading the memory of torch's parameters.
#
# `openvino.convert_model(network)` shares the memory of the parameters instead of copying it. After an in-place change
# of the weights, as any optimizer step makes, the network that was compiled before answers with a mix: layers that the
# converter folded into constants (a convolution with its BatchNorm) keep the old weights, the others read the new ones.
# That is the output of no network that ever existed, and nothing warns. A network that was converted from a deepcopy
# keeps the old weights.
#
# Seen, largest difference of the outputs (which are of size 1): 0.08 from the old network, 1.1 from the new; 0.002 (the
# precision of its arithmetic) from the old network where a deepcopy was converted.
# What it means for users of this library: it never scores a network in training by one that was converted before.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "openvino==2026.4.1" "torch==2.14.1" "numpy<3"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import copy

import openvino
import torch
from torch import nn

torch.manual_seed(0)
images = torch.randn(2, 3, 8, 8)
network = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 5)
).eval()


def compiled(converted_from):
    return openvino.compile_model(openvino.convert_model(converted_from, example_input=images), "CPU")


def answer(model):
    return torch.from_numpy(model(images.numpy())[0].copy())


def difference(first, second):
    return float((first - second).abs().max())


with torch.no_grad():
    of_the_network, of_a_copy = compiled(network), compiled(copy.deepcopy(network))
    old = network(images)
    before = difference(answer(of_the_network), old)
    for parameter in network.parameters():
        parameter.mul_(-1.5)
    new = network(images)
    mixed = answer(of_the_network)
    kept = difference(answer(of_a_copy), old)
print("openvino", openvino.__version__.split("-")[0])
print(f"before the change {before:.2g} from the network")
print(f"after it {difference(mixed, old):.2g} from the old, {difference(mixed, new):.2g} from the new; copy: {kept:.2g} from the old")
assert before < 0.01
assert difference(mixed, old) > 0.05
assert difference(mixed, new) > 0.5
assert kept < 0.01
PYTHON
