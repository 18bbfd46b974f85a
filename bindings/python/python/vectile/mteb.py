"""mteb: `VectileEncoder`, which implements mteb's protocol for encoders.

    import mteb
    from vectile.mteb import VectileEncoder
    results = mteb.evaluate(VectileEncoder("sentence-transformers/all-MiniLM-L6-v2"), tasks=mteb.get_tasks(["STS12"]))

This module needs the package mteb.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy
from mteb.models.model_meta import ModelMeta
from mteb.types import PromptType

from .sentence_transformer import SentenceTransformer

__all__ = ["VectileEncoder"]


class VectileEncoder:
    """An encoder for mteb. Queries and documents get the prompts that the model has for them.

    Args:
        model_name: a directory or a name on the Hub.
        revision: a branch, tag or commit of the Hub.
        device: the adapter, as for `SentenceTransformer`.
        **kwargs: further arguments of `SentenceTransformer`.
    """

    def __init__(
        self, model_name: str, revision: Optional[str] = None, *, device: Any = None, **kwargs: Any
    ) -> None:
        self.model = SentenceTransformer(model_name, revision=revision, device=device, **kwargs)
        name = model_name.strip("/").split("/")
        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": f"vectile/{name[-1]}", "revision": revision, "max_tokens": self.model.max_seq_length}
        )

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any = None,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: Optional[PromptType] = None,
        **kwargs: Any,
    ) -> Any:
        """Returns the vectors of all texts in mteb's batches, `[texts, dimension]`."""
        texts = [text for batch in inputs for text in batch["text"]]
        normalize = bool(kwargs.get("normalize_embeddings", False))
        if prompt_type == PromptType.query:
            return self.model.encode_query(texts, normalize_embeddings=normalize)
        if prompt_type == PromptType.document:
            return self.model.encode_document(texts, normalize_embeddings=normalize)
        return self.model.encode(texts, normalize_embeddings=normalize)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns the similarity of each vector in the first list with each vector in the second list."""
        return self.model.similarity(numpy.asarray(embeddings1), numpy.asarray(embeddings2))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns the similarity of each vector in the first list with the vector at the same index in the second."""
        return self.model.similarity_pairwise(numpy.asarray(embeddings1), numpy.asarray(embeddings2))
