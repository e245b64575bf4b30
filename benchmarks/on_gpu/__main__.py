"""How the library runs on a GPU: whether it is right, how fast it is, and what to do next.

    python -m benchmarks.on_gpu [--device cuda|cpu] [--quick] [--output DIR]

Four parts, one after the other:

right    the tests marked `gpu`: the device finds what the CPU finds, and leaves no trace;
fast     curves, heatmaps and a monitor's evaluation beside the bare network; memory, host waits;
peers    Quantus, zennit and captum on the same network, where they are installed;
profile  the dearest operations of a default evaluation, and how long the GPU is idle.

After each row `gpu.json` and `gpu.md` are written, so that an interrupted run leaves what it had.
It takes at most 8 minutes on a data-centre GPU and needs no network: rows that no longer fit say
"left out: no time". On a CPU, `--device cpu --quick` takes less than 2 minutes and only shows that
everything runs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch

from benchmarks.on_gpu.against_peers import against_peers
from benchmarks.on_gpu.budget import Budget
from benchmarks.on_gpu.fast import fast
from benchmarks.on_gpu.profiling import profiled
from benchmarks.on_gpu.report import Part, Report
from benchmarks.on_gpu.right import ROOT, right
from benchmarks.on_gpu.rows import Rows
from benchmarks.on_gpu.subjects import Scale

SECONDS = 8 * 60.0
# What must still be there for what comes after: tests may not take all the time.
PARTS: Mapping[str, tuple[str, Callable[[Rows, Scale], None], float]] = {
    "right": ("1. Right", right, 0.33),
    "fast": ("2. Fast", fast, 0.83),
    "peers": ("3. Against peers", against_peers, 0.92),
    "profile": ("4. Profile of a default evaluation", profiled, 1.0),
}
PACKAGES = (
    "torch", "torchvision", "torchmetrics", "pytorch-lightning", "timm", "numpy", "quantus",
    "zennit", "captum",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the two files."""
    began = time.monotonic()
    options = parser().parse_args(arguments)
    problem = problem_of(options)
    if problem:
        print(problem, file=sys.stderr)
        return 2
    if options.quick and options.device == "cpu":
        torch.set_num_threads(1)  # everything is tiny: a second one costs more than it brings
    scale = Scale(torch.device(options.device), options.quick)
    parts = {name: Part(title) for name, (title, _, _) in PARTS.items()}
    report = Report(options.output, facts(scale, arguments), parts, note_of(scale))
    warnings.filterwarnings("ignore")  # of other packages; what fails is in the tables
    try:
        for name, (_, work, share) in PARTS.items():
            part = parts[name]
            run_part(part, work, scale, Budget(began, SECONDS).until(share), report)
            print(f"{part.title}: {part.state}, {part.seconds:.0f} s", flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        print(f"written: {options.output / 'gpu.md'}, {options.output / 'gpu.json'}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.on_gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cuda if not given")
    made.add_argument("--quick", action="store_true", help="tiny sizes: only to see that it runs")
    made.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("runs") / "on_gpu",
        help="folder of gpu.json and gpu.md, which are replaced; nothing else in it is touched",
    )
    return made


def problem_of(options: argparse.Namespace) -> str | None:
    """What keeps the command from running, and what to do."""
    if options.output.exists() and not options.output.is_dir():
        return f"--output={options.output} is a file: give a folder"
    if options.device == "cuda" and not torch.cuda.is_available():
        return (
            "--device=cuda, but torch finds no CUDA device (see torch.cuda.is_available()). On a "
            "CPU: python -m benchmarks.on_gpu --device cpu --quick"
        )
    return None


def run_part(
    part: Part,
    work: Callable[[Rows, Scale], None],
    scale: Scale,
    budget: Budget,
    report: Report,
) -> None:
    """Run a part; what it has found so far is kept, however it ends."""
    began = time.monotonic()

    def save() -> None:
        part.seconds = time.monotonic() - began
        report.save()

    part.state = "interrupted"  # until it has ended
    save()
    try:
        work(Rows(part, budget, scale.device, save), scale)
        part.state = "done"
    except Exception as error:  # the other parts are still wanted
        part.state = f"failed ({type(error).__name__}: {error})"
    finally:
        save()


def note_of(scale: Scale) -> str:
    """What is not to be read into the figures; "" for a whole run on a GPU."""
    notes = []
    if scale.device.type == "cpu":
        notes.append("No GPU was asked: in part 1 the CPU is compared with itself.")
    if scale.quick:
        notes.append("Sizes are tiny: the figures show that everything runs, and not how fast.")
    return " ".join(notes)


def facts(scale: Scale, arguments: Sequence[str] | None) -> dict[str, str]:
    """On what it was measured."""
    given = sys.argv[1:] if arguments is None else arguments
    found = {
        "card": "none",
        "driver": "none",
        "CUDA, cuDNN": f"{torch.version.cuda}, {torch.backends.cudnn.version()}",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": output_of("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "command": shlex.join(["python", "-m", "benchmarks.on_gpu", *given]),
        "Python": platform.python_version(),
        "CPU threads": str(torch.get_num_threads()),
    }
    if scale.device.type == "cuda":
        card = torch.cuda.get_device_properties(scale.device)
        found["card"] = f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
        query = ("--query-gpu=driver_version", "--format=csv,noheader")
        found["driver"] = output_of("nvidia-smi", *query)
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def output_of(*command: str) -> str:
    """The first line that a command prints; "unknown" if it cannot be run."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return (done.stdout.splitlines() or ["unknown"])[0].strip()


if __name__ == "__main__":
    sys.exit(main())
