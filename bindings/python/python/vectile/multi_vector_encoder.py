"""`MultiVectorEncoder`: one vector for each token of a text."""

from __future__ import annotations

from typing import Any, Optional

from . import util
from ._arrays import tensor_or_array, to_numpy
from ._base import text_inputs
from ._encoder import Encoder
from .errors import OptionError


class MultiVectorEncoder(Encoder):
    """Turns texts into one vector for each token, for late interaction (ColBERT). It has the arguments and methods of
    sentence-transformers' class.

    Args:
        model_name_or_path: a directory, or a name on the Hub such as `lightonai/GTE-ModernColBERT-v1`.
        similarity_fn_name: `maxsim` or `meanmaxsim`, instead of the model's own function.
        **kwargs: the arguments of `SentenceTransformer`.

    Example:
        >>> model = MultiVectorEncoder(MULTI_VECTOR)
        >>> query = model.encode_query("Where is the cat?")
        >>> documents = model.encode_document(["A cat sat on the roof.", "The dog ran."])
        >>> tuple(model.similarity(query, documents).shape)
        (1, 2)
    """

    _kind = "multi-vector"
    _similarities = ("maxsim", "meanmaxsim")
    _default_similarity = "maxsim"

    def encode(
        self,
        inputs: Any = None,
        prompt_name: Optional[str] = None,
        prompt: Optional[str] = None,
        batch_size: int = 32,
        show_progress_bar: Optional[bool] = None,
        output_value: Optional[str] = "token_embeddings",
        convert_to_numpy: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        pool: Any = None,
        chunk_size: Optional[int] = None,
        token_pooling: Any = None,
        task: Optional[str] = None,
        **kwargs: Any,
    ) -> Any:
        """Returns the token vectors of texts. `encode_query` and `encode_document` call this method with a prompt and a task.

        Args:
            inputs, prompt_name, prompt, batch_size, show_progress_bar, device: as for `SentenceTransformer.encode`.
            output_value: must be `token_embeddings`.
            convert_to_numpy: returns numpy arrays instead of tensors.
            normalize_embeddings: scales every vector to length one.
            task: `query` or `document`; `None` means `document`.
            pool, chunk_size: have no effect.
            token_pooling: is not supported.

        Returns:
            A list with a matrix of shape `[tokens, dimension]` for each text. For one text, the matrix itself.
        """
        self._check_batch_size(batch_size)
        if output_value != "token_embeddings":
            raise OptionError(f"output_value is {output_value!r}; token_embeddings is expected")
        if token_pooling is not None:
            raise OptionError("token_pooling is not supported; leave it out")
        if self._check_kwargs(kwargs) is not None:
            raise OptionError("processing_kwargs: the model's files set the lengths of queries and documents")
        self._use(device)
        call = self._call(
            prompt=self._prompt(prompt, prompt_name), task=task or "document", normalize=normalize_embeddings
        )
        texts, single = text_inputs(inputs)
        title = f"Encoding {'queries' if task == 'query' else 'documents'}"
        encoded = self._encoded(texts, call, show_progress_bar, title)
        values = to_numpy(encoded.values)
        ends = [] if encoded.offsets is None else to_numpy(encoded.offsets).tolist()
        matrices: list[Any] = [values[begin:end] for begin, end in zip(ends, ends[1:])]
        if not convert_to_numpy:
            matrices = [tensor_or_array(matrix) for matrix in matrices]
        return matrices[0] if single else matrices

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns the score of each query with each document, `[queries, documents]`."""
        return util.maxsim(embeddings1, embeddings2, self.similarity_fn_name == "meanmaxsim")

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns the score of each query with the document at the same index, `[queries]`."""
        return util.maxsim_pairwise(embeddings1, embeddings2, self.similarity_fn_name == "meanmaxsim")


__all__ = ["MultiVectorEncoder"]
