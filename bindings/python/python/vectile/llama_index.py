"""LlamaIndex: `VectileEmbedding` and `VectileRerank`.

    from vectile.llama_index import VectileEmbedding
    Settings.embed_model = VectileEmbedding(model_name="sentence-transformers/all-MiniLM-L6-v2")

This module needs the package llama-index-core.
"""

from __future__ import annotations

from typing import Any, List, Optional

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from .cross_encoder import CrossEncoder
from .sentence_transformer import SentenceTransformer

__all__ = ["VectileEmbedding", "VectileRerank"]


class VectileEmbedding(BaseEmbedding):
    """An embedding model for LlamaIndex. Queries and documents get the prompts that the model has for them.

    Args:
        model_name: a directory or a name on the Hub.
        **kwargs: arguments of `SentenceTransformer` (`device`, `model_kwargs`, …), in the dictionary `load_kwargs`.
    """

    _client: SentenceTransformer = PrivateAttr()

    def __init__(self, model_name: str, load_kwargs: Optional[dict[str, Any]] = None, **kwargs: Any) -> None:
        super().__init__(model_name=model_name, **kwargs)
        self._client = SentenceTransformer(model_name, **(load_kwargs or {}))

    @classmethod
    def class_name(cls) -> str:
        """Returns the name under which LlamaIndex stores the class."""
        return "VectileEmbedding"

    def _get_query_embedding(self, query: str) -> List[float]:
        return [float(value) for value in self._client.encode_query(query)]

    async def _aget_query_embedding(self, query: str) -> List[float]:
        import asyncio

        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> List[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: List[str]) -> List[List[float]]:
        return [[float(value) for value in row] for row in self._client.encode_document(texts)]


class VectileRerank(BaseNodePostprocessor):
    """A reranker for LlamaIndex.

    Args:
        model: a directory or a name on the Hub.
        top_n: the number of nodes to keep.
        load_kwargs: arguments of `CrossEncoder`.
    """

    model: str
    top_n: int = 5
    _client: CrossEncoder = PrivateAttr()

    def __init__(self, model: str, top_n: int = 5, load_kwargs: Optional[dict[str, Any]] = None, **kwargs: Any) -> None:
        super().__init__(model=model, top_n=top_n, **kwargs)
        self._client = CrossEncoder(model, **(load_kwargs or {}))

    @classmethod
    def class_name(cls) -> str:
        """Returns the name under which LlamaIndex stores the class."""
        return "VectileRerank"

    def _postprocess_nodes(
        self, nodes: List[NodeWithScore], query_bundle: Optional[QueryBundle] = None
    ) -> List[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("a reranker needs the query")
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        ranked = self._client.rank(query_bundle.query_str, texts, top_k=self.top_n)
        return [NodeWithScore(node=nodes[each["corpus_id"]].node, score=each["score"]) for each in ranked]
