"""Examples in docstrings run, types are complete, and every public name has a docstring."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import enum
import importlib
import inspect
import os
import pathlib
import pkgutil
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
from conftest import MINILM, ROOT, require

import vectile
import vectile.errors

#: The file that uses every public name.
USES = pathlib.Path(__file__).with_name("uses.py")
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


@pytest.mark.parametrize("page", ["README.md", "bindings/python/README.md"])
def test_readmes_run_word_for_word(page: str, tmp_path: pathlib.Path) -> None:
    if not MINILM.is_dir():
        pytest.skip(f"{MINILM} is missing; scripts/quickstart.sh fetches the model")
    examples = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert examples, f"{page} has no example"
    # The model is in the Hub's cache, and in the directory that an example names.
    repository = tmp_path / "cache" / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2"
    commit = "0123456789abcdef0123456789abcdef01234567"
    for link in [repository / "snapshots" / commit, tmp_path / "models" / "all-MiniLM-L6-v2"]:
        link.parent.mkdir(parents=True)
        link.symlink_to(MINILM.resolve(), target_is_directory=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    for example in examples:
        run = subprocess.run([sys.executable, "-c", example], env=environment, cwd=tmp_path, capture_output=True, text=True)
        # The last line prints similarities, and a text's similarity with itself is 1.
        assert run.returncode == 0 and re.search(r"\b(1\.0*|0\.99999\d*)\b", run.stdout), run.stdout + run.stderr


def attributes(thing: Any) -> set[str]:
    """The public methods, properties and fields of a class."""
    fields = {each.name for each in dataclasses.fields(thing)} if dataclasses.is_dataclass(thing) else set()
    # An exception has attributes of Python's own, such as `args`.
    own = set() if issubclass(thing, (Exception, enum.Enum)) else set(dir(thing))
    return {name for name in fields | own if not name.startswith("_")}


def test_every_public_name_passes_mypy(tmp_path: pathlib.Path) -> None:
    tree = ast.parse(USES.read_text())
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    public = {*vectile.__all__, *vectile.util.__all__, *vectile.SimilarityFunction.__members__}
    public |= {name for name, thing in vars(vectile.errors).items() if inspect.isclass(thing)}
    for name in vectile.__all__:
        thing = getattr(vectile, name)
        public |= attributes(thing) if inspect.isclass(thing) else set()
    assert not public - used, f"uses.py does not use {sorted(public - used)}"
    require("mypy", "torch")
    # mypy refuses files of site-packages, so it checks a copy of the package.
    package = tmp_path / "vectile"
    shutil.copytree(pathlib.Path(vectile.__file__).parent, package)
    uses = shutil.copy(USES, tmp_path)
    optional = [str(package / f"{name}.py") for name in OPTIONAL]
    own = [str(path) for path in sorted(package.glob("*.py*")) if path.suffix in (".py", ".pyi") and str(path) not in optional]
    check = [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10", "--cache-dir", str(tmp_path / "cache")]
    for what in [[str(uses)], own]:
        result = subprocess.run([*check, *what], capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_stub_describes_the_compiled_module() -> None:
    require("mypy")
    check = [sys.executable, "-m", "mypy.stubtest", "vectile._core"]
    result = subprocess.run(check, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
