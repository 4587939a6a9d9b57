"""The house has floors, and imports go down only (docs/how-it-works.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "sparknn"

FLOORS = [
    {
        "activations",
        "bits",
        "blas",
        "losses",
        "objective",
        "optimizers",
        "solvers",
        "network",
        "linear",
        "prediction",
        "products",
        "scaling",
        "sparse",
        "xorshift",
        "workers",
        "boltzmann",
    },
    {
        "batches",
        "rows",
        "vectors",
        "blockfiles",
        "sparsefiles",
        "dealing",
        "errors",
        "saved",
        "numpy_models",
        "numpy_stages",
        "onnx_export",
    },
    {
        "cluster",
        "schema",
        "packing",
        "readers",
        "sweeping",
        "eviction",
        "mapping",
        "blocks",
        "moments",
        "rounds",
        "training",
        "shell",
    },
    {
        "params",
        "columns",
        "persistence",
        "fitting",
        "network_fit",
        "diagnostics",
        "classification",
        "feature",
        "regression",
    },
    {"cli"},
]
SPARKLESS = FLOORS[0] | FLOORS[1]


def modules() -> list[Path]:
    return sorted(
        path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"
    )


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    own = floor(room(path))
    for name in imported(path):
        if name.startswith("sparknn."):
            assert floor(name.split(".")[1]) <= own, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_lowest_floors_know_no_spark(path: Path) -> None:
    if room(path) in SPARKLESS:
        assert not any(name.split(".")[0] == "pyspark" for name in imported(path))
