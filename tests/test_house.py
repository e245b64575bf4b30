"""The rules of the house: which way imports run, what things are called, how long functions are."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "aopc_monitor"
# From the bottom to the top: a folder imports from those before it, and the leaves from none.
FLOORS = ("utilities", "network", "perturbation", "heatmaps", "metrics", "monitor")
LEAVES = ("figures", "utilities")
DOORS = {PACKAGE, *(f"{PACKAGE}.{folder}" for folder in (*FLOORS[1:], "figures"))}
LONGEST_BODY, MEDIAN_BODY = 30, 5
# Two modules of one name make a reader open the wrong file, unless the pair is one thing.
SAME_NAME = {
    "agreement": "the metric, and the functions of its table",
    "aopc": "the metric, and the function that it averages",
    "complexity": "the metric, and the functions that it averages",
    "sensitivity_n": "the metric, and the function that it averages",
    "deletion_insertion": "the metrics, and the functions that they average",
    "rationales": "the metrics, and the functions that they average",
    "saco": "the metric, and the function that it averages",
    "fidelity": "the metrics, and the functions that they average",
    "base": "what each kind of thing in the folder is: heatmaps, metrics",
    "table": "the rows of the folder: heatmaps, rules",
    "dashboard": "the folder, and the module that gave it its name",
}


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in files(PACKAGE)}


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Modules of the package that a file imports, wherever in it: in functions, for types only."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.append(name if name in MODULES else str(node.module))
    return tuple(name for name in found if name.partition(".")[0] == PACKAGE)


def folder_of(module: str) -> str:
    """The folder of a module; "" of the package's own `__init__`."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_down(module: str) -> None:
    folder = folder_of(module)
    for imported in imports_of(MODULES[module]):
        other = folder_of(imported)
        if not folder or other == folder:
            continue
        assert other, f"{module} imports the door of the whole package"
        assert folder not in LEAVES, f"{module} is in a leaf, and imports {imported}"
        if other not in LEAVES:
            assert FLOORS.index(other) < FLOORS.index(folder), f"{module} imports {imported}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: imports_of(path) for module, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' <- '.join(error.args[1])}")


def test_only_the_door_is_at_the_top() -> None:
    assert [path.name for path in (ROOT / PACKAGE).glob("*.py")] == ["__init__.py"]


def test_no_two_modules_share_a_name() -> None:
    """Without a reason; and no reason stays that is not needed."""
    names = Counter(module.rpartition(".")[2] for module in MODULES)
    assert {name for name, count in names.items() if count > 1} == set(SAME_NAME)


@pytest.mark.parametrize("path", files("recipes", "benchmarks"), ids=lambda path: module_of(path))
def test_recipes_and_benchmarks_come_in_through_doors(path: Path) -> None:
    past = set(imports_of(path)) - DOORS
    assert not past, f"imports past a door: {', '.join(sorted(past))}"


def functions() -> Iterator[tuple[str, int]]:
    """Each function of the package, and how many lines its body has without the docstring."""
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node, clean=False) else node.body
                length = int(body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                yield f"{module}.{node.name}", length


def test_functions_are_short() -> None:
    lengths = defaultdict(list)
    for name, length in functions():
        lengths[length].append(name)
    too_long = {length: names for length, names in lengths.items() if length > LONGEST_BODY}
    assert not too_long
    every = [length for length, names in lengths.items() for _ in names]
    assert len(every) > 500
    assert median(every) <= MEDIAN_BODY
