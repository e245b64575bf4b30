#!/usr/bin/env bash
# Quantus 0.6.0: the replacement "uniform" fills a patch with one random number for each channel, not with noise.
#
# The paper that region perturbation comes from (Samek et al. 2017, section III-B) replaces all the pixels of a region
# by randomly sampled values. perturb_baseline="uniform" draws one value for each channel of the patch and writes it into
# all of its pixels: a patch of one random colour. The two remove information in different ways, and their AOPCs do not
# compare.
#
# Seen: a patch of 2 x 2 pixels and 3 channels holds 3 different numbers (noise for each pixel would be 12).
# What it means for users of this library: values compare with Quantus under a constant replacement only, as
# benchmarks/against_quantus.py compares them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "quantus==0.6.0" "torch==2.14.1"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import quantus
from quantus.functions.perturb_func import baseline_replacement_by_indices

np.random.seed(0)
image = np.random.rand(3, 8, 8)
rows, columns = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
perturbed = baseline_replacement_by_indices(image, (rows, columns), (1, 2), perturb_baseline="uniform")
patch = perturbed[:, :2, :2]
print("quantus", quantus.__version__)
print(patch.round(3).tolist())
assert len(np.unique(patch)) == 3
assert all(len(np.unique(channel)) == 1 for channel in patch)
PYTHON
