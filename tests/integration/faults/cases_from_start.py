"""What is broken from the start, and what is not broken by the network and its data."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tests.integration.faults import injection as broken
from tests.integration.faults.cases_in_training import NO_CUDA_MEMORY, cuda_shortage
from tests.integration.faults.fault import FROM_THE_START, SAME_EVERYWHERE, Fault
from tests.integration.faults.injection import always
from tests.integration.faults.sources import (
    IMAGES,
    Lost,
    batches,
    labelled,
    unreadable,
)


def data(name: str, loader: Any, message: str, failed: tuple[int, ...] = FROM_THE_START) -> Fault:
    return Fault(f"`dataloader=` {name}", broken.in_loader(loader, labelled), failed, message)


def score(name: str, bad: int) -> Fault:
    def function(outputs: Tensor, target: Tensor) -> Tensor:
        scores = outputs.gather(1, target[:, None])[:, 0].clone()
        # Clean images come 16 at a time at most, perturbed ones 48.
        scores[: bad if len(scores) <= 16 else 0] = float("nan")
        return scores

    return Fault(
        name,
        lambda armed: broken.Injection(monitor={"score": function}),
        FROM_THE_START,
        "NaN or infinite",
        is_local=False,
        columns=SAME_EVERYWHERE,
    )


FROM_START = [
    data(
        "gives images of different sizes", batches(IMAGES[:8], IMAGES[:8, :, :8]), "differ in sha"
    ),
    data("gives images that hold NaN", batches(IMAGES * float("nan")), "all 40 images of the"),
    data("is empty", batches(), "list gave no batch"),
    data("raises", Lost, "OSError: the disk is gone"),
    data("has a data set that raises", unreadable(), "OSError: item 7 is truncated"),
    data("has a data set that raises once", unreadable(1), "OSError: item 7 is truncated", (0,)),
    Fault(
        "one of two probes in `dataloader=` is empty",
        lambda armed: broken.Injection(
            monitor={"dataloader": {"val": labelled(), "target": [] if armed else labelled()}}
        ),
        FROM_THE_START,
        "list gave no batch",
    ),
    Fault(
        "the model returns NaN, from the first evaluation on",
        broken.in_model(broken.becomes(float("nan")), always),
        FROM_THE_START,
        "NaN or infinite numbers",
    ),
    Fault(
        "the heatmap holds NaN, from the first evaluation on",
        broken.in_heatmap(broken.becomes(float("nan")), always),
        FROM_THE_START,
        "heatmaps holds NaN",
    ),
    Fault(
        "CUDA out of memory, from the first evaluation on",
        broken.in_model(cuda_shortage, always),
        FROM_THE_START,
        NO_CUDA_MEMORY,
    ),
    score("a `score` that is NaN for clean images", 16),
    score("a `score` that is NaN for one in 16 clean images", 1),
]
