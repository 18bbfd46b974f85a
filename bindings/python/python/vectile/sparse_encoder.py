"""`SparseEncoder`: for each text, weights of some tokens of the vocabulary."""

from __future__ import annotations

from typing import Any, Optional

from . import _core
from ._arrays import has_torch, to_numpy
from ._base import text_inputs
from ._encoder import Encoder
from .errors import OptionError


class SparseEncoder(Encoder):
    """Turns texts into sparse vectors over the vocabulary. It has the arguments and methods of sentence-transformers'
    class.

    Args:
        model_name_or_path: a directory, or a name on the Hub such as `naver/splade-v3`.
        similarity_fn_name: the function that compares vectors, instead of the model's own.
        max_active_dims: the maximum number of weights of a vector.
        **kwargs: the arguments of `SentenceTransformer`.

    Example:
        >>> model = SparseEncoder(SPARSE)
        >>> vectors = model.encode(["A cat.", "A dog."], convert_to_sparse_tensor=False)
        >>> tuple(vectors.shape) == (2, model.get_embedding_dimension())
        True
    """

    _kind = "sparse"
    _default_similarity = "dot"

    def __init__(
        self,
        model_name_or_path: Optional[str] = None,
        *,
        max_active_dims: Optional[int] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model_name_or_path, **kwargs)
        #: The maximum number of weights of a vector; `None` for the model's own limit.
        self.max_active_dims = max_active_dims

    def encode(
        self,
        inputs: Any = None,
        prompt_name: Optional[str] = None,
        prompt: Optional[str] = None,
        batch_size: int = 32,
        show_progress_bar: Optional[bool] = None,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        device: Any = None,
        max_active_dims: Optional[int] = None,
        pool: Any = None,
        chunk_size: Optional[int] = None,
        **kwargs: Any,
    ) -> Any:
        """Returns the sparse vectors of texts.

        Args:
            inputs, prompt_name, prompt, batch_size, show_progress_bar, device: as for `SentenceTransformer.encode`.
            convert_to_tensor: returns one tensor. If it is false, a list of tensors is returned.
            convert_to_sparse_tensor: returns sparse tensors (COO). If it is false, dense tensors are returned.
            max_active_dims: the maximum number of weights of a vector.
            save_to_cpu, pool, chunk_size: have no effect.

        Returns:
            Vectors of shape `[texts, vocabulary]`. If torch is not installed, a sparse result is a scipy array (CSR), and a
            dense result is a numpy array.
        """
        if "sentences" in kwargs and inputs is None:
            inputs = kwargs.pop("sentences")
        self._check_batch_size(batch_size)
        task = kwargs.pop("task", None)
        max_tokens = self._check_kwargs(kwargs)
        most = self.max_active_dims if max_active_dims is None else max_active_dims
        if most is not None and most <= 0:
            raise OptionError(f"max_active_dims must be a positive integer, got {most}.")
        self._use(device)
        call = self._call(
            prompt=self._prompt(prompt, prompt_name), task=task, max_tokens=max_tokens, max_active_dims=most
        )
        texts, single = text_inputs(inputs)
        encoded = self._encoded(texts, call, show_progress_bar)
        rows = _rows(encoded, convert_to_sparse_tensor)
        if single:
            return rows[0]
        return rows if convert_to_tensor else list(rows)

    def decode(self, embeddings: Any, top_k: Optional[int] = None) -> Any:
        """Returns the tokens of a vector with their weights, the largest weight first. For several vectors, returns a list
        of such lists.

        Example:
            >>> model = SparseEncoder(SPARSE)
            >>> tokens = model.decode(model.encode("A cat."), top_k=2)
            >>> len(tokens) == 2 and all(weight > 0 for _, weight in tokens)
            True
        """
        import numpy

        one = getattr(embeddings, "ndim", 2) == 1
        decoded = []
        for row in _dense(embeddings):
            order = numpy.argsort(-row, kind="stable")[: numpy.count_nonzero(row > 0)][:top_k]
            decoded.append([(self._model.token(int(at)), float(row[at])) for at in order])
        return decoded[0] if one else decoded

    @staticmethod
    def sparsity(embeddings: Any) -> dict[str, float]:
        """Returns the mean number of weights of a vector, and the share of tokens without one."""
        rows = _dense(embeddings)
        active = float((rows != 0).sum() / max(len(rows), 1))
        return {"active_dims": active, "sparsity_ratio": 1.0 - active / max(rows.shape[1], 1)}


def _dense(embeddings: Any) -> Any:
    """Returns the vectors as a dense numpy array."""
    from ._arrays import rows_of

    return rows_of(embeddings.todense() if hasattr(embeddings, "todense") else embeddings)


def _rows(encoded: _core.Encoded, sparse: bool) -> Any:
    """Returns the vectors as one sparse or dense tensor, or as an array if torch is not installed."""
    import numpy

    if encoded.offsets is None or encoded.indices is None:
        raise OptionError("the model returned no sparse vectors")
    values = to_numpy(encoded.values)
    offsets, indices = to_numpy(encoded.offsets), to_numpy(encoded.indices).astype(numpy.int64)
    count = len(offsets) - 1
    shape = (count, encoded.dim)
    if sparse and has_torch():
        import torch

        if not count:
            return torch.tensor([]).to_sparse()
        rows = numpy.repeat(numpy.arange(count), numpy.diff(offsets))
        at = torch.from_numpy(numpy.stack([rows, indices]))
        return torch.sparse_coo_tensor(at, torch.from_numpy(values), shape, is_coalesced=True)
    if sparse:
        try:
            from scipy.sparse import csr_array  # type: ignore[import-untyped, unused-ignore]
        except ImportError:
            raise ImportError(
                "sparse results need torch or scipy; install one, or use convert_to_sparse_tensor=False"
            ) from None
        return csr_array((values, indices, offsets), shape=shape)
    rows = numpy.zeros(shape, dtype=numpy.float32)
    rows[numpy.repeat(numpy.arange(count), numpy.diff(offsets)), indices] = values
    if not has_torch():
        return rows
    import torch

    return torch.from_numpy(rows) if count else torch.tensor([])


__all__ = ["SparseEncoder"]
