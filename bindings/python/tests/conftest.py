"""Where the models of the tests are, and what the tests need."""

from __future__ import annotations

import importlib.util
import os
import pathlib
from typing import Any, Iterator

import pytest

import vectile

ROOT = pathlib.Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "tests" / "fixtures"
MINILM = pathlib.Path(os.environ.get("VECTILE_TEST_MODEL", ROOT / ".vectile/models/all-MiniLM-L6-v2"))

TEXTS = [
    "A cat sat on the roof.",
    "The dog ran.",
    "",
    "Where is the cat?",
    "naïve café über",
    "light " * 80,
    "A cat sat on the roof.",
]


def require(*packages: str) -> None:
    """Skips a test without these packages; fails it where VECTILE_REQUIRE_PYTHON names them."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if not missing:
        return
    message = f"{', '.join(missing)} is not installed"
    if set(missing) & set(os.environ.get("VECTILE_REQUIRE_PYTHON", "").split(",")):
        pytest.fail(message)
    pytest.skip(message)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A machine without an adapter runs none of the tests, and says so."""
    if vectile.adapters() or os.environ.get("VECTILE_REQUIRE_ADAPTER"):
        return
    for item in items:
        item.add_marker(pytest.mark.skip(reason="there is no adapter"))


@pytest.fixture(scope="session")
def minilm() -> vectile.SentenceTransformer:
    if not MINILM.is_dir():
        pytest.skip(f"{MINILM} is missing; scripts/quickstart.sh fetches the model")
    return vectile.SentenceTransformer(str(MINILM), model_kwargs={"dtype": "float32"})


@pytest.fixture(scope="session")
def tiny() -> vectile.SentenceTransformer:
    return vectile.SentenceTransformer(str(FIXTURES / "bert_mean_norm"))


@pytest.fixture(autouse=True)
def names(doctest_namespace: dict[str, Any]) -> Iterator[None]:
    """The names that examples in docstrings use."""
    doctest_namespace["MODEL"] = str(FIXTURES / "bert_mean_norm")
    doctest_namespace["RERANKER"] = str(FIXTURES / "rerankers" / "bert")
    doctest_namespace["SPARSE"] = str(FIXTURES / "sparse" / "bert")
    doctest_namespace["MULTI_VECTOR"] = str(FIXTURES / "multi_vector" / "bert")
    yield
