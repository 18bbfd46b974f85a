"""Examples in docstrings run, types are complete, and every public name has a docstring."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pathlib
import pkgutil
import shutil
import subprocess
import sys
from typing import Any

import pytest
from conftest import FIXTURES, require

import vectile

#: Modules that need a package which may be absent.
OPTIONAL = {"langchain", "llama_index", "haystack", "chroma", "mteb", "ray", "daft"}
MODULES = [
    name for _, name, _ in pkgutil.iter_modules(vectile.__path__) if not name.startswith("_") and name not in OPTIONAL
]


@pytest.mark.parametrize("name", ["", *MODULES])
def test_examples_run(name: str, doctest_namespace: dict[str, Any]) -> None:
    module = importlib.import_module(f"vectile.{name}" if name else "vectile")
    results = doctest.testmod(module, extraglobs=doctest_namespace, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


def test_public_names_are_described() -> None:
    for name in vectile.__all__:
        thing = getattr(vectile, name)
        if inspect.isclass(thing):
            for method, function in inspect.getmembers(thing, inspect.isfunction):
                if not method.startswith("_"):
                    assert function.__doc__, f"{name}.{method} has no docstring"
        if inspect.isclass(thing) or inspect.isfunction(thing) or inspect.ismodule(thing):
            assert thing.__doc__, f"{name} has no docstring"


def test_every_public_name_passes_mypy(tmp_path: pathlib.Path) -> None:
    require("mypy", "torch")
    uses = tmp_path / "uses.py"
    model = str(FIXTURES / "bert_mean_norm")
    uses.write_text(
        "\n".join(
            [
                "import numpy",
                "import vectile",
                f"from vectile import {', '.join(name for name in vectile.__all__ if not name.startswith('_'))}",
                f"model = SentenceTransformer({model!r}, device=None, model_kwargs={{'dtype': 'auto'}})",
                "rows: numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.float32]] = model.encode(['a'])",
                "dimension: int = model.get_embedding_dimension()",
                "length: int | None = model.max_seq_length",
                "shown: str = str(model.precision)",
                "names: list[str] = [each.name for each in adapters()]",
                "hits = util.semantic_search(rows, rows, top_k=1)",
                "score: float | int = hits[0][0]['score']",
                "ranked = CrossEncoder('x').rank('a', ['b'])",
                "sparse = SparseEncoder('x').encode('a')",
                "tokens = MultiVectorEncoder('x').encode_query('a')",
                "passed: bool = verify('x').passed",
                "wall: float = bench('x', quick=True).wall_s",
                "kinds = (Adapter, BenchReport, Inspection, Precision, PrecisionTiming, Verification, VectileError)",
                "function = SimilarityFunction('dot')",
            ]
        )
    )
    # mypy refuses files of site-packages, so it checks a copy of the package.
    package = tmp_path / "vectile"
    shutil.copytree(pathlib.Path(vectile.__file__).parent, package)
    optional = [str(package / f"{name}.py") for name in OPTIONAL]
    own = [str(path) for path in sorted(package.glob("*.py*")) if path.suffix in (".py", ".pyi") and str(path) not in optional]
    check = [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10", "--cache-dir", str(tmp_path / "cache")]
    for what in [[str(uses)], own]:
        result = subprocess.run([*check, *what], capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
