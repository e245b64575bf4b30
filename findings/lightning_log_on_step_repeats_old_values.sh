#!/usr/bin/env bash
# pytorch-lightning 2.6.6: a value that a callback logs every few steps is drawn at other steps, and drawn again later.
#
# `pl_module.log(name, value, on_step=True)` from `on_train_batch_end` only stores the value. It reaches the loggers
# when `log_every_n_steps` divides the number of steps, with the x of that moment, and the value that was stored last is
# written at every later flush too, though nobody logged it again. A callback that logs every 4 steps under
# log_every_n_steps=3 gives a curve that has wrong x, and a point that was never measured.
#
# Seen, the callback having logged 4, 8, 12, 16 at these very steps (x counts from 0, so 3, 7, 11, 15 would be right):
#   (x, value) = (5, 4) (8, 8) (11, 12) (14, 12) (17, 16)
# What it means for users of this library: AOPCMonitor hands its values to the loggers itself, with their step
# (aopc_monitor/monitor/loggers.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "pytorch-lightning==2.6.6" "torch==2.14.1" "numpy<3"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON' 2>errors || { cat errors; exit 1; }
import csv
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class EveryFourSteps(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, *args):
        if trainer.global_step % 4 == 0:
            pl_module.log("logged_at", float(trainer.global_step), on_step=True)


trainer = pl.Trainer(
    max_epochs=1, logger=CSVLogger("."), log_every_n_steps=3, callbacks=[EveryFourSteps()], accelerator="cpu",
    enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
)
trainer.fit(Module(), DataLoader(TensorDataset(torch.ones(18, 1))))
with (Path(trainer.logger.log_dir) / "metrics.csv").open() as file:
    points = [(int(row["step"]), float(row["logged_at"])) for row in csv.DictReader(file) if row["logged_at"]]
print("pytorch-lightning", pl.__version__)
print(*points)
assert points == [(5, 4.0), (8, 8.0), (11, 12.0), (14, 12.0), (17, 16.0)]
PYTHON
