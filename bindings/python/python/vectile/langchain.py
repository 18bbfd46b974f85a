"""LangChain: `VectileEmbeddings`, a class of embeddings.

    from vectile.langchain import VectileEmbeddings
    embeddings = VectileEmbeddings(model="sentence-transformers/all-MiniLM-L6-v2")
    store = InMemoryVectorStore(embeddings)

This module needs the package langchain-core.
"""

from __future__ import annotations

from typing import Any

from langchain_core.embeddings import Embeddings

from .sentence_transformer import SentenceTransformer

__all__ = ["VectileEmbeddings"]


class VectileEmbeddings(Embeddings):
    """Embeddings for LangChain. Queries and documents get the prompts that the model has for them.

    Args:
        model: a directory, a name on the Hub, or a loaded `SentenceTransformer`.
        encode_kwargs: arguments of `encode`, such as `normalize_embeddings`.
        **kwargs: arguments of `SentenceTransformer`, such as `device`.
    """

    def __init__(self, model: str | SentenceTransformer, *, encode_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.client = model if isinstance(model, SentenceTransformer) else SentenceTransformer(model, **kwargs)
        self.encode_kwargs = encode_kwargs or {}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns the vectors of documents."""
        rows = self.client.encode_document(list(texts), **self.encode_kwargs)
        return [[float(value) for value in row] for row in rows]

    def embed_query(self, text: str) -> list[float]:
        """Returns the vector of a query."""
        return [float(value) for value in self.client.encode_query(text, **self.encode_kwargs)]
