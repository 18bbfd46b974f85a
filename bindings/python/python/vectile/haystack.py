"""Haystack: `VectileTextEmbedder`, `VectileDocumentEmbedder` and `VectileRanker`.

This module needs the package haystack-ai. Haystack loads a stored pipeline only from modules that it trusts:

    Pipeline.load(file, allowed_modules=["vectile.haystack"])
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

from haystack import Document, component, default_from_dict, default_to_dict

from .cross_encoder import CrossEncoder
from .sentence_transformer import SentenceTransformer

__all__ = ["VectileDocumentEmbedder", "VectileRanker", "VectileTextEmbedder"]


class _Embedder:
    """The base class of both embedders. `warm_up` or the first run loads the model."""

    def __init__(
        self,
        model: str,
        load_kwargs: Optional[dict[str, Any]] = None,
        encode_kwargs: Optional[dict[str, Any]] = None,
    ) -> None:
        self.model = model
        self.load_kwargs = load_kwargs or {}
        self.encode_kwargs = encode_kwargs or {}
        self._client: Optional[SentenceTransformer] = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the component as a dictionary."""
        return default_to_dict(
            self, model=self.model, load_kwargs=self.load_kwargs, encode_kwargs=self.encode_kwargs
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """Returns the component that a dictionary describes."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Loads the model."""
        if self._client is None:
            self._client = SentenceTransformer(self.model, **self.load_kwargs)

    def _loaded(self) -> SentenceTransformer:
        self.warm_up()
        assert self._client is not None
        return self._client


@component
class VectileTextEmbedder(_Embedder):
    """Embeds a query.

    Args:
        model: a directory or a name on the Hub.
        load_kwargs: arguments of `SentenceTransformer`.
        encode_kwargs: arguments of `encode`.
    """

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Returns a dictionary with the vector of a query under the key `embedding`."""
        if not isinstance(text, str):
            raise TypeError("VectileTextEmbedder takes a text; for documents use VectileDocumentEmbedder")
        return {"embedding": self._loaded().encode_query(text, **self.encode_kwargs).tolist()}


@component
class VectileDocumentEmbedder(_Embedder):
    """Embeds documents.

    Args:
        model: a directory or a name on the Hub.
        load_kwargs: arguments of `SentenceTransformer`.
        encode_kwargs: arguments of `encode`.
    """

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Returns a dictionary with the documents and their vectors under the key `documents`."""
        if not isinstance(documents, list) or any(not isinstance(each, Document) for each in documents):
            raise TypeError("VectileDocumentEmbedder takes documents; for a query use VectileTextEmbedder")
        rows = self._loaded().encode_document([each.content or "" for each in documents], **self.encode_kwargs)
        return {"documents": [replace(each, embedding=row.tolist()) for each, row in zip(documents, rows)]}


@component
class VectileRanker:
    """Ranks documents by their relevance to a query.

    Args:
        model: a directory or a name on the Hub.
        top_k: the number of documents to return.
        load_kwargs: arguments of `CrossEncoder`.
    """

    def __init__(self, model: str, top_k: int = 10, load_kwargs: Optional[dict[str, Any]] = None) -> None:
        self.model = model
        self.top_k = top_k
        self.load_kwargs = load_kwargs or {}
        self._client: Optional[CrossEncoder] = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the component as a dictionary."""
        return default_to_dict(self, model=self.model, top_k=self.top_k, load_kwargs=self.load_kwargs)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """Returns the component that a dictionary describes."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Loads the model."""
        if self._client is None:
            self._client = CrossEncoder(self.model, **self.load_kwargs)

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: Optional[int] = None) -> dict[str, Any]:
        """Returns a dictionary with the documents, the most relevant first, under the key `documents`."""
        self.warm_up()
        assert self._client is not None
        if not documents:
            return {"documents": []}
        texts = [each.content or "" for each in documents]
        ranked = self._client.rank(query, texts, top_k=self.top_k if top_k is None else top_k)
        return {"documents": [replace(documents[each["corpus_id"]], score=each["score"]) for each in ranked]}
