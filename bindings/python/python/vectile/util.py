"""Functions on vectors, with the names and arguments of `sentence_transformers.util`.

Vectors are numpy arrays, tensors or lists of either. Results are tensors, or numpy arrays if torch is not installed.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from . import _core
from ._arrays import is_tensor, rows_of, tensor_or_array, to_numpy
from .errors import OptionError

if TYPE_CHECKING:
    from .sentence_transformer import SentenceTransformer

__all__ = [
    "SimilarityFunction",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "manhattan_sim",
    "maxsim",
    "normalize_embeddings",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "pytorch_cos_sim",
    "quantize_embeddings",
    "semantic_search",
    "truncate_embeddings",
]

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

#: The minimum length by which a vector is divided, as in torch's `normalize`.
_MIN_LENGTH = 1e-12


class SimilarityFunction(Enum):
    """The functions that compare vectors.

    >>> SimilarityFunction("dot") is SimilarityFunction.DOT
    True
    """

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @staticmethod
    def possible_values() -> list[str]:
        """Returns the four names."""
        return list(SIMILARITIES)

    @staticmethod
    def to_similarity_fn(function: Union[str, SimilarityFunction]) -> Callable[[Any, Any], Any]:
        """Returns the function that compares each vector of one list with each vector of another list."""
        name = checked_similarity(function) or "cosine"
        return {"cosine": cos_sim, "dot": dot_score, "euclidean": euclidean_sim, "manhattan": manhattan_sim}[name]

    @staticmethod
    def to_similarity_pairwise_fn(function: Union[str, SimilarityFunction]) -> Callable[[Any, Any], Any]:
        """Returns the function that compares vectors at the same index of two lists."""
        name = checked_similarity(function) or "cosine"
        return {
            "cosine": pairwise_cos_sim,
            "dot": pairwise_dot_score,
            "euclidean": pairwise_euclidean_sim,
            "manhattan": pairwise_manhattan_sim,
        }[name]


def checked_similarity(function: Any, names: tuple[str, ...] = SIMILARITIES) -> Optional[str]:
    """Returns the name of a similarity function.

    Raises:
        ValueError: there is no such function.
    """
    name = getattr(function, "value", function)
    if name is not None and name not in names:
        raise OptionError(f"similarity_fn_name is {name!r}; use one of {', '.join(names)}")
    return None if name is None else str(name)


def _normalized(rows: Any) -> Any:
    import numpy

    lengths = numpy.sqrt(numpy.einsum("ij,ij->i", rows, rows))
    return rows / numpy.maximum(lengths, _MIN_LENGTH)[:, None]


def _is_sparse(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_sparse(each) for each in value)
    return is_tensor(value) and bool(value.is_sparse)


def _sparse(name: str, a: Any, b: Any) -> Any:
    """Returns the products of sparse tensors, which are too wide to be made dense."""
    import torch

    def rows(value: Any) -> Any:
        value = torch.stack(value) if isinstance(value, list) else value
        value = (value.unsqueeze(0) if value.dim() == 1 else value).float()
        value = value if value.is_sparse else value.to_sparse()
        if name == "dot":
            return value
        squares = torch.sparse.sum(value * value, dim=1).to_dense()
        value = value.coalesce()
        scale = squares.sqrt().clamp(min=_MIN_LENGTH)[value.indices()[0]]
        return torch.sparse_coo_tensor(value.indices(), value.values() / scale, value.shape)

    return torch.mm(rows(a), rows(b).transpose(0, 1)).to_dense()


def similarity(name: str, a: Any, b: Any) -> Any:
    """Returns the similarity of each row of `a` with each row of `b`, by the function with this name."""
    if name in ("cosine", "dot") and _is_sparse(a) and _is_sparse(b):
        return _sparse(name, a, b)
    first, second = rows_of(a), rows_of(b)
    if name in ("euclidean", "manhattan"):
        return tensor_or_array(to_numpy(_core.similarity(name, first, second, False)))
    if first.shape[1] != second.shape[1]:
        raise OptionError(f"rows of {first.shape[1]} and {second.shape[1]} values cannot be compared")
    if name == "cosine":
        first, second = _normalized(first), _normalized(second)
    # With torch, torch multiplies: its threads are those that the program has set.
    return tensor_or_array(first) @ tensor_or_array(second).T


def similarity_pairwise(name: str, a: Any, b: Any) -> Any:
    """Returns the similarity of each row of `a` with the same row of `b`, by the function with this name."""
    return tensor_or_array(to_numpy(_core.similarity(name, rows_of(a), rows_of(b), True)))


def cos_sim(a: Any, b: Any) -> Any:
    """Returns the cosine of each row of `a` with each row of `b`, `[rows of a, rows of b]`.

    >>> float(cos_sim([3.0, 4.0], [[3.0, 0.0]])[0][0]) - 0.6 < 1e-6
    True
    """
    return similarity("cosine", a, b)


pytorch_cos_sim = cos_sim


def dot_score(a: Any, b: Any) -> Any:
    """Returns the dot product of each row of `a` with each row of `b`."""
    return similarity("dot", a, b)


def euclidean_sim(a: Any, b: Any) -> Any:
    """Returns the negative Euclidean distance of each row of `a` to each row of `b`."""
    return similarity("euclidean", a, b)


def manhattan_sim(a: Any, b: Any) -> Any:
    """Returns the negative Manhattan distance of each row of `a` to each row of `b`."""
    return similarity("manhattan", a, b)


def pairwise_cos_sim(a: Any, b: Any) -> Any:
    """Returns the cosine of each row of `a` with the same row of `b`, `[rows]`."""
    return similarity_pairwise("cosine", a, b)


def pairwise_dot_score(a: Any, b: Any) -> Any:
    """Returns the dot product of each row of `a` with the same row of `b`."""
    return similarity_pairwise("dot", a, b)


def pairwise_euclidean_sim(a: Any, b: Any) -> Any:
    """Returns the negative Euclidean distance of each row of `a` to the same row of `b`."""
    return similarity_pairwise("euclidean", a, b)


def pairwise_manhattan_sim(a: Any, b: Any) -> Any:
    """Returns the negative Manhattan distance of each row of `a` to the same row of `b`."""
    return similarity_pairwise("manhattan", a, b)


#: The functions that the Rust library computes, by their names in this module and in sentence-transformers.
_BY_FUNCTION = {
    "cos_sim": "cosine",
    "pytorch_cos_sim": "cosine",
    "dot_score": "dot",
    "euclidean_sim": "euclidean",
    "manhattan_sim": "manhattan",
}


def semantic_search(
    query_embeddings: Any,
    corpus_embeddings: Any,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500000,
    top_k: int = 10,
    score_function: Callable[[Any, Any], Any] = cos_sim,
    *,
    model: Optional[SentenceTransformer] = None,
) -> list[list[dict[str, Union[int, float]]]]:
    """Returns the nearest rows of a corpus for each query, best first. The search is exact.

    Args:
        query_embeddings: one vector or several.
        corpus_embeddings: the rows to search.
        query_chunk_size, corpus_chunk_size: have no effect.
        top_k: the number of hits for each query.
        score_function: a function of this module or of sentence-transformers that compares all rows, such as `cos_sim`.
        model: searches on the adapter of this model, for example its GPU. Without a model, the host's threads search.

    Returns:
        For each query, a list of dictionaries with `corpus_id` and `score`.

    Example:
        >>> semantic_search([[1.0, 0.0]], [[0.0, 1.0], [2.0, 0.1]], top_k=1)[0][0]["corpus_id"]
        1
    """
    name = _BY_FUNCTION.get(getattr(score_function, "__name__", ""))
    if name is None:
        raise OptionError(f"score_function: use one of {', '.join(sorted(_BY_FUNCTION))}")
    if top_k < 0:
        raise OptionError(f"top_k is {top_k}; it must not be negative")
    adapter = None if model is None else model._model
    found = _core.semantic_search(rows_of(query_embeddings), rows_of(corpus_embeddings), top_k, name, adapter)
    return [[{"corpus_id": index, "score": score} for index, score in hits] for hits in found]


def normalize_embeddings(embeddings: Any) -> Any:
    """Returns the vectors, scaled to length one."""
    return tensor_or_array(_normalized(rows_of(embeddings)))


def truncate_embeddings(embeddings: Any, truncate_dim: Optional[int]) -> Any:
    """Returns the vectors, truncated to `truncate_dim` values."""
    return embeddings[..., :truncate_dim]


def quantize_embeddings(embeddings: Any, precision: str) -> Any:
    """Returns the vectors in another number format: `float32`, `float16`, `int8`, `uint8`, `binary` or `ubinary`.

    `int8` and `uint8` divide the range of each column over all vectors into 255 steps. For a list of matrices, the
    range is that over all matrices.

    >>> quantize_embeddings([[0.5, -0.5], [0.0, 0.25]], "ubinary").tolist()
    [[128], [64]]
    """
    if isinstance(embeddings, list) and embeddings and getattr(embeddings[0], "ndim", 1) == 2:
        import numpy

        matrices = [rows_of(each) for each in embeddings]
        rows = quantize_embeddings(numpy.concatenate(matrices), precision)
        ends = numpy.cumsum([len(each) for each in matrices])[:-1]
        return numpy.split(rows, ends)
    one = getattr(embeddings, "ndim", 2) == 1
    rows = to_numpy(_core.quantize(rows_of(embeddings), precision))
    return rows[0] if one else rows


def maxsim(queries: Any, documents: Any, length_normalize: bool = False) -> Any:
    """Returns the MaxSim score of each query with each document, `[queries, documents]`. Each query and each document is a
    matrix of token vectors.

    A document without vectors has the score -1e9.
    """
    import numpy

    ours = [rows_of(each) for each in _matrices(queries)]
    theirs = [rows_of(each) for each in _matrices(documents)]
    scores = numpy.empty((len(ours), len(theirs)), dtype=numpy.float32)
    for i, query in enumerate(ours):
        for j, document in enumerate(theirs):
            scores[i, j] = _maxsim(query, document, length_normalize)
    return tensor_or_array(scores)


def maxsim_pairwise(queries: Any, documents: Any, length_normalize: bool = False) -> Any:
    """Returns the MaxSim score of each query with the document at the same index, `[queries]`."""
    import numpy

    ours, theirs = _matrices(queries), _matrices(documents)
    if len(ours) != len(theirs):
        raise OptionError(f"{len(ours)} queries cannot be paired with {len(theirs)} documents")
    pairs = zip(ours, theirs)
    scores = [_maxsim(rows_of(query), rows_of(document), length_normalize) for query, document in pairs]
    return tensor_or_array(numpy.array(scores, dtype=numpy.float32))


def _matrices(value: Any) -> list[Any]:
    one = not isinstance(value, (list, tuple)) and getattr(value, "ndim", 3) == 2
    return [value] if one else list(value)


def _maxsim(query: Any, document: Any, length_normalize: bool) -> float:
    if not len(document):
        return -1e9
    score = float((query @ document.T).max(axis=1).sum())
    return score / max(len(query), 1) if length_normalize else score
