"""Chroma: `VectileEmbeddingFunction`.

    from vectile.chroma import VectileEmbeddingFunction
    collection = client.create_collection("texts", embedding_function=VectileEmbeddingFunction("…/all-MiniLM-L6-v2"))

This module needs the package chromadb.
"""

from __future__ import annotations

from typing import Any, Optional

from chromadb.api.types import Documents, EmbeddingFunction, Embeddings, Space
from chromadb.utils.embedding_functions import register_embedding_function

from .sentence_transformer import SentenceTransformer

__all__ = ["VectileEmbeddingFunction"]


@register_embedding_function
class VectileEmbeddingFunction(EmbeddingFunction[Documents]):
    """An embedding function for Chroma, which a collection stores by its name and configuration.

    Args:
        model_name: a directory or a name on the Hub.
        device: the adapter, as for `SentenceTransformer`.
        normalize_embeddings: scales vectors to length one.
        load_kwargs: further arguments of `SentenceTransformer`.
    """

    def __init__(
        self,
        model_name: str,
        device: Optional[str] = None,
        normalize_embeddings: bool = False,
        load_kwargs: Optional[dict[str, Any]] = None,
    ) -> None:
        self.model_name = model_name
        self.device = device
        self.normalize_embeddings = normalize_embeddings
        self.load_kwargs = load_kwargs or {}
        self._client = SentenceTransformer(model_name, device=device, **self.load_kwargs)

    def __call__(self, input: Documents) -> Embeddings:
        """Returns the vectors of documents."""
        rows = self._client.encode_document(list(input), normalize_embeddings=self.normalize_embeddings)
        return list(rows)

    def embed_query(self, input: Documents) -> Embeddings:
        """Returns the vectors of queries."""
        rows = self._client.encode_query(list(input), normalize_embeddings=self.normalize_embeddings)
        return list(rows)

    @staticmethod
    def name() -> str:
        """Returns the name under which Chroma stores the function."""
        return "vectile"

    def default_space(self) -> Space:
        """Returns the distance function of a new collection, which is the model's own."""
        spaces: dict[str, Space] = {"dot": "ip", "euclidean": "l2"}
        return spaces.get(self._client.similarity_fn_name, "cosine")

    def supported_spaces(self) -> list[Space]:
        """Returns the distance functions that a collection may use."""
        return ["cosine", "l2", "ip"]

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration that Chroma stores with a collection."""
        return {
            "model_name": self.model_name,
            "device": self.device,
            "normalize_embeddings": self.normalize_embeddings,
            "load_kwargs": self.load_kwargs,
        }

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> VectileEmbeddingFunction:
        """Returns the embedding function that a configuration describes."""
        return VectileEmbeddingFunction(**config)

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Checks that a new configuration of a collection does not change its model."""
        if old_config.get("model_name") != new_config.get("model_name"):
            raise ValueError("the model of a collection cannot be changed")
