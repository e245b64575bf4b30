#!/usr/bin/env bash
# transformers 5.24.0: PPLCNetForImageClassification returns class scores without `.logits`, and no loss for labels.
#
# Every other image classifier of transformers returns an object with `.logits`, and with `.loss` where `labels` are
# given. This one returns class scores as `last_hidden_state`, of shape (N, classes). It accepts `labels=` and gives no
# loss for them, without an error or a warning.
#
# Seen: a BaseModelOutputWithNoAttention whose only entry is last_hidden_state of shape (2, 5), with labels too.
# What it means for users of this library: class scores are found by their shape where nothing has a usual name
# (aopc_monitor/network/outputs.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "transformers==5.24.0" "torch==2.14.1" "torchvision==0.29.1"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
import transformers
from transformers import PPLCNetConfig, PPLCNetForImageClassification

model = PPLCNetForImageClassification(PPLCNetConfig(num_labels=5)).eval()
images, labels = torch.randn(2, 3, 64, 64), torch.tensor([0, 4])
with torch.no_grad():
    plain, with_labels = model(images), model(images, labels=labels)
print("transformers", transformers.__version__)
for name, answer in (("images", plain), ("images, labels=labels", with_labels)):
    print(f"model({name}):", type(answer).__name__, {key: tuple(value.shape) for key, value in answer.items()})
    assert list(answer) == ["last_hidden_state"]
    assert answer.last_hidden_state.shape == (2, 5)
assert not hasattr(plain, "logits")
PYTHON
