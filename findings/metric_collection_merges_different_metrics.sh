#!/usr/bin/env bash
# torchmetrics 1.9.0: MetricCollection reports the value of one metric under the name of another.
#
# After the first batch a collection puts metrics into one "compute group" whose states have equal names, shapes and
# values, and from then on updates only the first of them. The classes are not compared. Two metrics of different
# classes whose first batch happens to give equal sums (here: zeros and ones, for which x and x * x are the same)
# share a group for good, and the second reports the first one's value without a word.
#
# Seen: Mean 1.4, MeanOfSquares 1.4 (right: 3.0), one group; right with compute_groups=False.
# What it means for users of this library: AOPC and its kin keep a fingerprint of their settings as a state, so that two
# of them never look alike (aopc_monitor/metrics/base.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torchmetrics==1.9.0" "torch==2.14.1" "numpy<3"
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import torchmetrics
from torchmetrics import Metric, MetricCollection


class Mean(Metric):
    full_state_update = False

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.tensor(0.0), "sum")
        self.add_state("count", torch.tensor(0), "sum")

    def update(self, values):
        self.total = self.total + values.sum()
        self.count = self.count + len(values)

    def compute(self):
        return self.total / self.count


class MeanOfSquares(Mean):
    def update(self, values):
        super().update(values.square())


batches = [torch.tensor([0.0, 1.0, 1.0]), torch.tensor([2.0, 3.0])]


def collected(**settings):
    collection = MetricCollection([Mean(), MeanOfSquares()], **settings)
    for batch in batches:
        collection.update(batch)
    values = {name: round(float(value), 4) for name, value in collection.compute().items()}
    return values, collection.compute_groups


merged, groups = collected()
apart, _ = collected(compute_groups=False)
print("torchmetrics", torchmetrics.__version__)
print("as it comes:           ", merged, groups)
print("compute_groups=False:  ", apart)
assert merged == {"Mean": 1.4, "MeanOfSquares": 1.4}
assert groups == {0: ["Mean", "MeanOfSquares"]}
assert apart == {"Mean": 1.4, "MeanOfSquares": 3.0}
PYTHON
