#!/usr/bin/env bash
# torch 2.14.1, CPU: the backward pass of BatchNorm in eval mode is wrong for a single image whose gradient comes as
# tokens, so that the gradient of one image differs from that of the same image in a batch of two.
#
# Networks that turn a feature map into tokens (hybrids of convolution and attention) make gradients of shape
# (N, C, H, W) whose values lie as (N, H, W, C). For a batch of one image they are read in another order than they lie.
# Nothing warns, and a batch of two is right.
#
# Seen, error of the gradient in units of its largest value: 1.3 for one image, 8.5e-8 for one with a contiguous gradient,
# 8.5e-8 for two.
# What it means for users of this library: heatmaps of a single image are made of contiguous gradients there
# (tests/heatmaps has one image alone against the same in company, for every heatmap).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "numpy<3"
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn

torch.manual_seed(0)
layer = nn.BatchNorm2d(8).eval()
layer.running_var.uniform_(0.5, 2.0)


def gradient(images, outer):
    images = images.clone().requires_grad_()
    return torch.autograd.grad(layer(images), images, outer)[0]


images = torch.randn(2, 8, 4, 4)
tokens = torch.randn(2, 16, 8)  # (N, H * W, C)


def error(count, contiguous=False):
    """Of the gradient of the first images, in units of the largest exact value."""
    outer = tokens[:count].transpose(1, 2).unflatten(2, (4, 4))  # (N, C, H, W)
    scale = (layer.weight / (layer.running_var + layer.eps).sqrt()).detach()
    exact = outer * scale[:, None, None]
    found = gradient(images[:count], outer.contiguous() if contiguous else outer)
    return float((found - exact).abs().max() / exact.abs().max())


one, mended, two = error(1), error(1, contiguous=True), error(2)
print("torch", torch.__version__)
print(f"relative error: one image {one:.2g}, one image with a contiguous gradient {mended:.2g}, two images {two:.2g}")
assert one > 0.5
assert mended < 1e-6
assert two < 1e-6
PYTHON
