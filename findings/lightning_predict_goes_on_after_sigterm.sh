#!/usr/bin/env bash
# pytorch-lightning 2.6.6: after SIGTERM a training ends with the batch, and a prediction goes on to its end.
#
# While a trainer runs, Lightning has a handler of SIGTERM of its own in the place of the usual one, which would end
# the process. It notes the signal in `trainer.received_sigterm`, and the loop of a training looks there after each
# batch. The loop of `trainer.predict` does not, nor do those of `validate` and `test`: a job that is asked to end
# during a long prediction goes on until it is finished, or killed.
#
# Seen, the signal being sent in the second of five batches:
#   fit ended after batch 2, by SIGTERMException
#   predict ended after batch 5, the signal noted
# What it means for users of this library: studies that measure blocks of images in `trainer.predict` look at
# `trainer.received_sigterm` themselves (recipes/shared/heatmap_blocks.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "pytorch-lightning==2.6.6" "torch==2.14.1" "numpy<3"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON' 2>errors || { cat errors; exit 1; }
import os
import signal

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.last = 0

    def forward(self, batch, batch_idx):
        self.last = batch_idx + 1
        if self.last == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.layer(batch[0]).square().mean()

    def training_step(self, batch, batch_idx):
        return self(batch, batch_idx)

    def predict_step(self, batch, batch_idx):
        return self(batch, batch_idx)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


print("pytorch-lightning", pl.__version__)
seen = {}
for what in ("fit", "predict"):
    trainer = pl.Trainer(
        max_epochs=1, logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )
    module = Module()
    try:
        getattr(trainer, what)(module, DataLoader(TensorDataset(torch.ones(5, 1))))
        how = "the signal noted" if trainer.received_sigterm else "no signal"
    except BaseException as error:
        how = f"by {type(error).__name__}"
    seen[what] = (module.last, how)
    print(f"{what} ended after batch {module.last}, {how}")
assert seen == {"fit": (2, "by SIGTERMException"), "predict": (5, "the signal noted")}, seen
PYTHON
