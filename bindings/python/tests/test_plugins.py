"""The places where people plug the package in, each with the real package."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy
import pytest
from conftest import FIXTURES, require

from vectile import SentenceTransformer

MODEL = str(FIXTURES / "bert_prompts")
RERANKER = str(FIXTURES / "rerankers" / "bert")
TEXTS = ["A cat sat on the roof.", "The dog ran.", "Rain fell on the house."]


@pytest.fixture(scope="module")
def rows() -> Any:
    return SentenceTransformer(MODEL).encode_document(TEXTS)


@pytest.fixture(scope="module")
def query() -> Any:
    return SentenceTransformer(MODEL).encode_query("Where is the cat?")


if importlib.util.find_spec("langchain_tests"):
    from langchain_tests.integration_tests import EmbeddingsIntegrationTests
    from langchain_tests.unit_tests import EmbeddingsUnitTests

    class Subject:
        """The class that both suites of LangChain test."""

        @property
        def embeddings_class(self) -> Any:
            from vectile.langchain import VectileEmbeddings

            return VectileEmbeddings

        @property
        def embedding_model_params(self) -> dict[str, Any]:
            return {"model": MODEL}

    class TestLangChainUnit(Subject, EmbeddingsUnitTests):
        pass

    class TestLangChainIntegration(Subject, EmbeddingsIntegrationTests):
        pass


def test_langchain_finds_documents(rows: Any) -> None:
    require("langchain_core", "langchain_tests")
    from langchain_core.vectorstores import InMemoryVectorStore

    from vectile.langchain import VectileEmbeddings

    store = InMemoryVectorStore.from_texts(TEXTS, VectileEmbeddings(model=MODEL))
    assert store.similarity_search(TEXTS[1], k=3)
    assert numpy.allclose(VectileEmbeddings(model=MODEL).embed_documents(TEXTS), rows)


def test_llama_index_finds_documents(rows: Any, query: Any) -> None:
    require("llama_index")
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

    from vectile.llama_index import VectileEmbedding, VectileRerank

    embedding = VectileEmbedding(model_name=MODEL)
    assert numpy.allclose(embedding.get_text_embedding_batch(TEXTS), rows)
    assert numpy.allclose(embedding.get_query_embedding("Where is the cat?"), query)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    ranked = VectileRerank(model=RERANKER, top_n=2).postprocess_nodes(nodes, QueryBundle("Where is the cat?"))
    assert len(ranked) == 2 and ranked[0].score >= ranked[1].score


def test_haystack_runs_pipelines(rows: Any, query: Any) -> None:
    require("haystack")
    from haystack import Document, Pipeline

    from vectile.haystack import VectileDocumentEmbedder, VectileRanker, VectileTextEmbedder

    documents = [Document(content=text) for text in TEXTS]
    pipeline = Pipeline()
    pipeline.add_component("documents", VectileDocumentEmbedder(MODEL))
    pipeline.add_component("query", VectileTextEmbedder(MODEL))
    pipeline = Pipeline.from_dict(pipeline.to_dict(), allowed_modules=["vectile.haystack"])
    result = pipeline.run({"documents": {"documents": documents}, "query": {"text": "Where is the cat?"}})
    assert numpy.allclose([each.embedding for each in result["documents"]["documents"]], rows)
    assert numpy.allclose(result["query"]["embedding"], query)
    ranked = VectileRanker(RERANKER, top_k=2).run("Where is the cat?", documents)["documents"]
    assert len(ranked) == 2 and ranked[0].score >= ranked[1].score


def test_chroma_stores_the_function(rows: Any) -> None:
    require("chromadb")
    import chromadb

    from vectile.chroma import VectileEmbeddingFunction

    client = chromadb.EphemeralClient()
    collection = client.create_collection("texts", embedding_function=VectileEmbeddingFunction(MODEL))
    collection.add(ids=["a", "b", "c"], documents=TEXTS)
    kept = collection.get(include=["embeddings"])["embeddings"]
    assert numpy.allclose(kept, rows, atol=1e-6)
    assert len(collection.query(query_texts=["Where is the cat?"], n_results=2)["ids"][0]) == 2
    config = VectileEmbeddingFunction(MODEL).get_config()
    assert VectileEmbeddingFunction.build_from_config(config).get_config() == config


def test_mteb_takes_the_encoder(rows: Any, query: Any) -> None:
    require("mteb")
    from mteb.models import EncoderProtocol
    from mteb.types import PromptType

    from vectile.mteb import VectileEncoder

    encoder = VectileEncoder(MODEL)
    assert isinstance(encoder, EncoderProtocol)
    batches = [{"text": TEXTS[:2]}, {"text": TEXTS[2:]}]
    assert numpy.allclose(encoder.encode(batches, prompt_type=PromptType.document), rows)
    assert numpy.allclose(encoder.encode([{"text": ["Where is the cat?"]}], prompt_type=PromptType.query)[0], query)
    assert tuple(encoder.similarity(rows, rows).shape) == (3, 3)


def test_daft_embeds_a_column(rows: Any) -> None:
    require("daft", "pyarrow")
    import daft

    from vectile.daft import embed_text

    frame = daft.from_pydict({"text": TEXTS * 5})
    for workers in (1, 2):
        column = embed_text(frame["text"], MODEL, workers=workers, batch_size=4, encode_kwargs={"task": "document"})
        found = frame.with_column("embedding", column).to_pydict()["embedding"]
        assert (numpy.array(found, numpy.float32) == numpy.concatenate([rows] * 5)).all()
    frame = daft.from_pydict({"text": ["a cat", None]})
    found = frame.with_column("embedding", embed_text(frame["text"], MODEL, on_error="null")).to_pydict()["embedding"]
    assert found[1] is None and len(found[0]) == rows.shape[1]
    with pytest.raises(ValueError, match="input 1 is null"):
        frame.with_column("embedding", embed_text(frame["text"], MODEL)).to_pydict()


#: Writes the process's id to a file at each load of a model. Python runs a module of this name at the start of a process.
COUNT_LOADS = """
import os
import vectile
load = vectile.SentenceTransformer._load
def counted(self):
    with open(os.environ["VECTILE_LOADS"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    load(self)
vectile.SentenceTransformer._load = counted
"""

EMBED_WITH_DAFT = """
import sys
import daft
from vectile.daft import embed_text
frame = daft.from_pydict({"text": ["a cat", "the dog"] * 300})
column = embed_text(frame["text"], sys.argv[1], workers=int(sys.argv[2]), batch_size=7)
assert frame.with_column("embedding", column).count_rows() == 600
frame.with_column("embedding", column).to_pydict()
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_daft_loads_the_model_once_in_a_process(workers: int, tmp_path: pathlib.Path) -> None:
    require("daft", "pyarrow")
    (tmp_path / "sitecustomize.py").write_text(COUNT_LOADS)
    loads = tmp_path / "loads"
    path = os.pathsep.join([str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    environment = {**os.environ, "PYTHONPATH": path, "VECTILE_LOADS": str(loads)}
    command = [sys.executable, "-c", EMBED_WITH_DAFT, MODEL, str(workers)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    processes = loads.read_text().split()
    # Daft's own process loads the model to learn the width of the column. Daft need not give work to every worker.
    expected = {1} if workers == 1 else {2, 3}
    assert len(processes) == len(set(processes)) and len(processes) in expected, processes
