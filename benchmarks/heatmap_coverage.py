"""Which heatmaps work on which of torchvision's models, and how well LRP conserves relevance.

    python -m benchmarks.heatmap_coverage [MODEL ...]

writes `benchmarks/heatmap_coverage.md`, a row as soon as it is measured. Without names it goes
through all models, which takes about 20 minutes on two cores and up to 20 GB of memory.
"""

from __future__ import annotations

import argparse
import gc
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import LRPEpsilon
from benchmarks.models import conservation_error, conserving, names
from benchmarks.peers import EPSILON, captum_lrp, zennit_epsilon

METHODS = ("sensitivity_l2", "deconvolution_l2", "lrp", "lrp_alpha2_beta1", "lrp_epsilon_plus")
TABLE = Path(__file__).with_suffix(".md")
HEAD = """# Heatmaps on torchvision's classification models

Made by `python -m benchmarks.heatmap_coverage` with torch {torch} and torchvision {torchvision}.
Random weights, float64, two images. "yes": a finite heatmap that is not constant, without a
warning, that left every parameter, mode and hook of the model as it was. The last three columns are
the conservation error |sum R - f| / |f| of LRP-epsilon with epsilon 1e-9, where f is the output for
the predicted class, and biases, shifts of batch normalisation, position embeddings and class tokens
are zero; {limit:.0e} and more is wrong.

| model | {methods} | LRP error | captum LRP error | zennit LRP error |
|---|{rules}---:|---:|---:|
"""
LIMIT = 1e-6


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", help="names of models; all if none")
    parser.add_argument("--output", type=Path, default=TABLE, help="where the table goes")
    arguments = parser.parse_args()
    head = HEAD.format(
        torch=torch.__version__.split("+")[0],
        torchvision=torchvision.__version__.split("+")[0],
        limit=LIMIT,
        methods=" | ".join(METHODS),
        rules="---|" * len(METHODS),
    )
    arguments.output.write_text(head)
    for name in arguments.models or names():
        row = " | ".join(cells_of(name))
        print(row, flush=True)
        with arguments.output.open("a") as table:
            table.write(f"| {row} |\n")
        gc.collect()


def cells_of(name: str) -> list[str]:
    """The row of one model."""
    model, images, target = conserving(name)
    cells = [name, *(works(model, images, target, method) for method in METHODS)]
    for relevance in (LRPEpsilon(EPSILON), captum_lrp, zennit_epsilon):
        cells.append(error_of(model, images, target, relevance))
    return cells


def works(model: nn.Module, images: Tensor, target: Tensor, method: str) -> str:
    """The word yes, or what went wrong."""
    before = fingerprint(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            relevance = heatmaps.get(method)(model, images, target)
    except Exception as error:
        return f"no: {type(error).__name__}"
    if not bool(torch.isfinite(relevance).all()) or not bool(relevance.std() > 0):
        return "no: constant or not finite"
    return "yes" if fingerprint(model) == before else "no: it changed the model"


def error_of(
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    relevance: Callable[[nn.Module, Tensor, Tensor], Tensor],
) -> str:
    """The conservation error, or what was raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            error = conservation_error(
                model, images, target, lambda: relevance(model, images, target)
            )
    except Exception as caught:
        return f"raises {type(caught).__name__}"
    return f"{error:.1e}" if error < LIMIT else f"**{error:.1e}**"


def fingerprint(model: nn.Module) -> list[object]:
    """What must be the same after a heatmap; parameters by identity, version and sum."""
    of_parameters = [
        (id(p), p._version, float(p.detach().sum()), p.requires_grad, p.grad is None)
        for p in model.parameters()
    ]
    of_modules = [
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for m in model.modules()
    ]
    return [of_parameters, of_modules, [float(b.double().sum()) for b in model.buffers()]]


if __name__ == "__main__":
    main()
