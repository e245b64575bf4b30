"""DeepSpeed's stages 1 and 2, on its accelerator for CPUs: values of one process, same training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy
from torch import Tensor, nn

from aopc_monitor import AOPC, AOPCMonitor, estimate_aopc
from tests.integration.sharded.models import images, mlps
from tests.integration.sharded.test_lightning import history_of
from tests.integration.sharded.training import MONITOR, Sharded, loaders, trainer
from tests.processes import run

pytestmark = pytest.mark.full
STAGES, PRECISIONS = (1, 2), ("32-true", "bf16-true", "bf16-mixed")
PROTOCOL: dict[str, Any] = {"region_size": 3, "steps": 4, "data_range": (0.0, 1.0)}


class OnCPU(DeepSpeedStrategy):
    """Lightning asks for GPUs before it starts DeepSpeed, which has a CPU for an accelerator."""

    def setup_environment(self) -> None:
        DDPStrategy.setup_environment(self)

    def setup_distributed(self) -> None:
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    def _setup_model_and_optimizer(
        self, model: Any, optimizer: Any, lr_scheduler: Any = None
    ) -> tuple[Any, Any]:
        """As Lightning does, which adds the number of a GPU."""
        deepspeed = pytest.importorskip("deepspeed")
        parameters = list(model.parameters())
        made = deepspeed.initialize(
            config=self.config, model=model, model_parameters=parameters, optimizer=optimizer,
            lr_scheduler=lr_scheduler, dist_init_required=False,
        )  # fmt: skip
        return made[0], made[1]


def config_of(stage: int) -> dict[str, Any]:
    return {
        "zero_optimization": {"stage": stage, "overlap_comm": True, "allgather_bucket_size": 200},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "train_micro_batch_size_per_gpu": 4,
    }


def whole(model: nn.Sequential, mesh: Any) -> nn.Module:
    return model


class Engine(Sharded):
    """A LightningModule for DeepSpeed, which needs no `configure_model`."""

    def configure_model(self) -> None:
        pass


def states_of(made: pl.Trainer) -> list[Tensor]:
    """Weights, and what each process keeps of the optimizer: its share of flat tensors."""
    [optimizer] = made.optimizers
    engine = made.strategy.model
    kept = [*engine.module.parameters(), *engine.module.buffers()]
    kept += optimizer.single_partition_of_fp32_groups
    for state in optimizer.optimizer.state.values():
        kept += [value for value in state.values() if isinstance(value, Tensor)]
    return [tensor.detach().clone() for tensor in kept] + [torch.get_rng_state()]


def fit(folder: Path, stage: int, precision: str, callbacks: list[Any]) -> list[Tensor]:
    pl.seed_everything(3, verbose=False)
    made = trainer(
        2, folder, callbacks, strategy=OnCPU(config=config_of(stage)), precision=precision,
        accumulate_grad_batches=2, limit_train_batches=6,
    )  # fmt: skip
    made.fit(Engine(make=mlps), *loaders())
    assert type(made.strategy.model).__name__ == "DeepSpeedEngine"
    return states_of(made)


def engine_of(stage: int) -> Any:
    deepspeed = pytest.importorskip("deepspeed")
    model = mlps()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    return deepspeed.initialize(model=model, optimizer=optimizer, config=config_of(stage))[0]


def values_of(model: nn.Module, batches: list[Tensor]) -> list[float]:
    """A metric of its own on all images, and an estimate of which each process has a share."""
    metric = AOPC("lrp", sync_on_compute=False, **PROTOCOL)
    metric.update(model, images(8))
    return [float(metric.compute()), estimate_aopc(model, batches, **PROTOCOL).aopc.mean]


def refusal_of_stage_3(folder: Path) -> str:
    try:
        fit(folder, 3, "32-true", [AOPCMonitor(**MONITOR)])
    except ValueError as error:
        return str(error)
    return ""


def _work(rank: int, world_size: int, folder: Path) -> dict[Any, Any]:
    os.environ["DS_ACCELERATOR"] = "cpu"
    found: dict[Any, Any] = {"refusal": refusal_of_stage_3(folder)}
    for stage in STAGES:
        batches = list(images(16).split(4))[rank::world_size]
        found[stage] = values_of(engine_of(stage), batches)
        for precision in PRECISIONS:
            monitor = AOPCMonitor(every_n_steps=1, on_error="raise", **MONITOR)
            plain = fit(folder, stage, precision, [])
            watched = fit(folder, stage, precision, [monitor])
            found[stage, precision] = plain, watched, history_of(monitor)
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    pytest.importorskip("deepspeed")
    return run(_work, 2, tmp_path_factory.mktemp("ranks"), tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stage", STAGES)
def test_training_is_bit_identical(ranks: list[Any], stage: int, precision: str) -> None:
    for found in ranks:
        plain, watched, history = found[stage, precision]
        assert len(plain) > 20
        assert not torch.equal(plain[0].float(), next(mlps().parameters()))
        assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
        assert [record["step"] for record in history] == [0, 1, 2, 3]
        assert history == ranks[0][stage, precision][2]


@pytest.mark.parametrize("stage", STAGES)
def test_values_are_those_of_one_process(ranks: list[Any], stage: int, tmp_path: Path) -> None:
    alone = AOPCMonitor(every_n_steps=1, on_error="raise", **MONITOR)
    module = Sharded(make=mlps)
    module.is_whole = True
    trainer(1, tmp_path, [alone]).fit(module, *loaders())
    expected = values_of(mlps(), list(images(16).split(4)))
    for found in ranks:
        history = found[stage, "32-true"][2]
        assert history[0] == pytest.approx(history_of(alone)[0], abs=1e-6)
        assert found[stage] == pytest.approx(expected, abs=1e-6)


def test_stage_3_is_refused_before_the_first_step(ranks: list[Any]) -> None:
    for found in ranks:
        assert "under DeepSpeedStrategy(stage=3)" in found["refusal"]
        assert "DeepSpeedStrategy(stage=2)" in found["refusal"]
