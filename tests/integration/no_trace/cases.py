"""Which trainings are compared: a pairwise matrix over what a training may depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice
from typing import Any, NamedTuple, TypeAlias

from allpairspy import AllPairs

from tests.integration.no_trace.constraints import CONSTRAINTS

Value: TypeAlias = tuple[str, str]
Pair: TypeAlias = tuple[Value, Value]


class Case(NamedTuple):
    """One training: a value for each factor."""

    precision: str
    normalization: str
    augmentation: str
    processes: str
    validation: str
    optimization: str
    checkpointing: str
    compile: str
    debugging: str
    averaging: str
    clipping: str
    monitor: str
    sanity_check: str
    num_workers: str
    overfit_batches: str
    dropout: str
    accumulation: str
    resumed: str
    # What the network is given; all of the matrix are on images.
    kind: str = "images"
    # What the monitor compares predictions with; none in the matrix.
    reference: str = "none"


# The first value of each is that of a training which asks for nothing. The order of the factors
# decides how many cases it takes: most values first, and among such orders this is a good one.
FACTORS: dict[str, tuple[str, ...]] = {
    "precision": ("32-true", "bf16-mixed", "bf16-true", "64-true"),
    "normalization": ("none", "batch_norm", "frozen_batch_norm", "sync_batch_norm"),
    "augmentation": ("none", "torch", "numpy", "python"),
    "processes": ("1", "ddp", "ddp_static_graph", "ddp_find_unused"),
    "validation": ("every_epoch", "val_check_interval", "limit_val_batches"),
    "optimization": ("sgd", "adam", "gan"),
    "checkpointing": ("off", "reentrant", "non_reentrant"),
    "compile": ("none", "network", "module"),
    "debugging": ("none", "deterministic", "detect_anomaly"),
    "averaging": ("none", "ema", "swa"),
    "clipping": ("none", "0.1"),
    "monitor": ("first", "last"),
    "sanity_check": ("on", "off"),
    "num_workers": ("0", "2"),
    "overfit_batches": ("0", "2"),
    "dropout": ("off", "on"),
    "accumulation": ("1", "2"),
    "resumed": ("no", "yes"),
}


def title(case: Case) -> str:
    """The values of a case, short: what is off, or as in every training, is not mentioned."""
    values = [*zip(FACTORS, case, strict=False)]
    told = [f"{f} {v}" for f, v in values if v != FACTORS[f][0]]
    told += [f"on {case.kind}"] * (case.kind != "images")
    told += [f"compared with {case.reference}"] * (case.reference != "none")
    return ", ".join(told) or "the first of each"


def is_possible(row: Mapping[str, str]) -> bool:
    return not any(constraint.forbids(row) for constraint in CONSTRAINTS)


def possible_pairs() -> Iterator[Pair]:
    """Every two values of two factors that no constraint forbids."""
    values = [(factor, value) for factor in FACTORS for value in FACTORS[factor]]
    for one, other in combinations(values, 2):
        if one[0] != other[0] and is_possible(dict((one, other))):
            yield one, other


def pairs_of(case: Case) -> set[Pair]:
    return set(combinations(zip(FACTORS, case, strict=False), 2))


def _new_cases(cases: Sequence[Case], only: Mapping[str, Sequence[str]]) -> Iterator[Case]:
    """Cases of certain values only, each of which adds pairs to those that are there."""

    def is_allowed(values: Sequence[str]) -> bool:
        # Also asked of the first few values alone, while a case is being made up.
        row = dict(zip(FACTORS, values, strict=False))
        return is_possible(row) and all(row[f] in only[f] for f in only if f in row)

    made: Any = AllPairs(
        [list(values) for values in FACTORS.values()],
        filter_func=is_allowed,
        previously_tested=[case[: len(FACTORS)] for case in cases if is_allowed(case)],
    )
    return (Case(*values) for values in made)


def _extended(cases: list[Case], only: Mapping[str, Sequence[str]]) -> list[Case]:
    """These cases, and others of certain values only until all their pairs are there."""
    cases = cases + list(_new_cases(cases, only))
    for pair in possible_pairs():
        wanted = {factor: [value] for factor, value in pair}
        is_asked_for = all(value in only.get(factor, [value]) for factor, value in pair)
        # The search is greedy and may stop early. It is then asked for what it left out.
        if is_asked_for and not any(pair in pairs_of(case) for case in cases):
            cases = cases + list(islice(_new_cases(cases, {**only, **wanted}), 1))
    return cases


def _generated() -> list[Case]:
    """One process first, so that these alone have every pair of all else. GPUs in cases apart."""
    on_cpu = [name for name in FACTORS["normalization"] if name != "sync_batch_norm"]
    cases = _extended([], {"processes": ["1"], "normalization": on_cpu})
    cases = _extended(cases, {"normalization": on_cpu})
    return _extended(cases, {})


CASES = _generated()

# The compiler itself takes long, so that the cases above stop before it makes machine code.
_PLAIN = Case(*(values[0] for values in FACTORS.values()))
_COMMON = _PLAIN._replace(optimization="adam", normalization="batch_norm", dropout="on")
# Other kinds of input, each in a training that many have, and pictures are made, too.
KINDS = [
    _COMMON._replace(kind="series", num_workers="2", validation="val_check_interval"),
    _COMMON._replace(kind="volumes", precision="bf16-mixed", resumed="yes", averaging="ema"),
    _COMMON._replace(kind="videos", optimization="sgd", monitor="last"),
    _COMMON._replace(kind="tables", resumed="yes", averaging="swa"),
    _PLAIN._replace(kind="texts", optimization="adam", resumed="yes", num_workers="2"),
    _COMMON._replace(kind="texts of BERT", normalization="none", clipping="0.1", accumulation="2"),
]
# Where predictions are compared, the least relevant regions are perturbed first, too.
PATCHES, DRAWING = "fitted patches", "a callable that draws"
REFERENCES = [
    _COMMON._replace(reference=PATCHES, augmentation="torch", num_workers="2"),
    _COMMON._replace(reference=DRAWING, precision="bf16-mixed", resumed="yes", averaging="ema"),
    _COMMON._replace(reference=PATCHES, processes="ddp", accumulation="2"),
]
# The network is spread over processes, by Lightning's ModelParallelStrategy: how many in all, and
# over how many of them each linear layer is cut.
MESHES = {"fsdp2": (2, 1), "tensor_parallel": (2, 2), "fsdp2_tensor_parallel": (4, 2)}
SHARDED = [
    _COMMON._replace(processes="fsdp2", accumulation="2", clipping="0.1", resumed="yes"),
    _COMMON._replace(processes="fsdp2", precision="bf16-mixed", reference=PATCHES, monitor="last"),
    _COMMON._replace(processes="tensor_parallel", augmentation="torch", checkpointing="reentrant"),
    _COMMON._replace(processes="fsdp2_tensor_parallel", checkpointing="non_reentrant"),
]
INDUCTOR = [_COMMON._replace(compile=f"{what} by inductor") for what in ("network", "module")]
