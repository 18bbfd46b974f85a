"""`CrossEncoder`: scores of pairs of texts."""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence

from . import _core
from ._arrays import has_torch, to_numpy, to_tensor, torch
from ._base import BaseModel, checked_texts
from ._progress import Bar
from .errors import OptionError


class CrossEncoder(BaseModel):
    """Scores pairs of texts on any GPU. It has the arguments and methods of sentence-transformers' class.

    Args:
        model_name_or_path: a directory, or a name on the Hub such as `cross-encoder/ms-marco-MiniLM-L6-v2`.
        num_labels: the number of scores of a pair. It must be equal to that of the model.
        max_length: truncates pairs to this number of tokens.
        activation_fn: the function that is applied to logits, instead of the model's own.
        keep_in_fp32_modules: has no effect, because sums are always f32.
        **kwargs: the arguments of `SentenceTransformer`.

    Example:
        >>> model = CrossEncoder(RERANKER)
        >>> model.predict([("Where is the cat?", "A cat sat on the roof.")]).shape
        (1,)
    """

    _kind = "reranker"
    _organization = "cross-encoder"

    def __init__(
        self,
        model_name_or_path: Optional[str] = None,
        *,
        num_labels: Optional[int] = None,
        max_length: Optional[int] = None,
        activation_fn: Optional[Callable[[Any], Any]] = None,
        keep_in_fp32_modules: Optional[list[str]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model_name_or_path, **kwargs)
        #: The function that is applied to logits; `None` for the model's own.
        self.activation_fn = activation_fn
        self.keep_in_fp32_modules = keep_in_fp32_modules or []
        if max_length is not None:
            self._max_tokens = max_length
        if num_labels is not None and num_labels != self.num_labels:
            raise OptionError(f"num_labels is {num_labels}, and the model has {self.num_labels}")

    @property
    def num_labels(self) -> int:
        """Returns the number of scores of a pair: one for a reranker, several for a classifier."""
        return self._model.dimension()

    @property
    def max_length(self) -> Optional[int]:
        """Returns the maximum number of tokens of a pair. This property can be set."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: Optional[int]) -> None:
        self.max_seq_length = value

    def predict(
        self,
        inputs: Any = None,
        prompt_name: Optional[str] = None,
        prompt: Optional[str] = None,
        batch_size: int = 32,
        show_progress_bar: Optional[bool] = None,
        activation_fn: Optional[Callable[[Any], Any]] = None,
        apply_softmax: Optional[bool] = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        pool: Any = None,
        chunk_size: Optional[int] = None,
        **kwargs: Any,
    ) -> Any:
        """Returns the scores of pairs.

        Args:
            inputs: a list of pairs or one pair; a pair is a tuple or list of two texts.
            prompt_name: the name of a prompt that is put before the first text of each pair.
            prompt: the prompt itself.
            batch_size, pool, chunk_size: have no effect.
            show_progress_bar: as for `SentenceTransformer.encode`.
            activation_fn: the function that is applied to the logits, of shape `[pairs, labels]`. The logits are a tensor
                if torch is installed. By default, the model's own function is applied.
            apply_softmax: applies softmax to the scores of a pair if the model has several labels.
            convert_to_numpy: returns a numpy array. If it is false, a list is returned.
            convert_to_tensor: returns one tensor.
            device: loads the model on this adapter first.

        Returns:
            Scores of shape `[pairs]` for a model with one label, and `[pairs, labels]` for several. For one pair, the
            first dimension is missing.

        Example:
            >>> model = CrossEncoder(RERANKER)
            >>> str(model.predict(("Where is the cat?", "A cat sat on the roof.")).dtype)
            'float32'
        """
        if "sentences" in kwargs and inputs is None:
            inputs = kwargs.pop("sentences")
        self._check_batch_size(batch_size)
        max_tokens = self._check_kwargs(kwargs)
        single = _is_pair(inputs)
        pairs = [inputs] if single else list(inputs)
        self._use(device)
        first, second = _split(pairs)
        own = activation_fn or self.activation_fn
        call = self._call(
            prompt=self._prompt(prompt, prompt_name), max_tokens=max_tokens, logits=own is not None
        )
        with Bar(show_progress_bar, len(pairs), "Batches") as bar:
            encoded = self._model.encode(first, second, call, bar.update)
        if not pairs:
            if convert_to_tensor:
                return torch().tensor([])
            import numpy

            return numpy.array([]) if convert_to_numpy else []
        scores: Any = self._activated(encoded, own, bool(apply_softmax))
        if convert_to_tensor:
            scores = to_tensor(scores)
        elif not convert_to_numpy:
            scores = list(to_tensor(scores) if has_torch() else scores)
        return scores[0] if single else scores

    def _activated(
        self, encoded: _core.Encoded, activation: Optional[Callable[[Any], Any]], softmax: bool
    ) -> Any:
        scores: Any = to_numpy(encoded.values)
        if activation is not None:
            scores = activation(to_tensor(scores) if has_torch() else scores)
            scores = scores.float().cpu().numpy() if hasattr(scores, "cpu") else scores
        if self.num_labels == 1 and scores.ndim > 1:
            scores = scores[:, 0]
        if softmax and scores.ndim > 1:
            import numpy

            powers = numpy.exp(scores - scores.max(axis=1, keepdims=True))
            scores = powers / powers.sum(axis=1, keepdims=True)
        return scores

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: Optional[int] = None,
        return_documents: bool = False,
        prompt_name: Optional[str] = None,
        prompt: Optional[str] = None,
        batch_size: int = 32,
        show_progress_bar: Optional[bool] = None,
        activation_fn: Optional[Callable[[Any], Any]] = None,
        device: Any = None,
        pool: Any = None,
        chunk_size: Optional[int] = None,
    ) -> list[dict[str, Any]]:
        """Returns the documents, sorted by their relevance to a query, the most relevant first.

        Args:
            query: the query.
            documents: the documents.
            top_k: the number of documents to return, or `None` for all documents.
            return_documents: adds the text of each document.

        Returns:
            Dictionaries with `corpus_id`, `score` and, with `return_documents`, `text`.

        Raises:
            ValueError: the model has several labels, so no single score is the relevance.

        Example:
            >>> model = CrossEncoder(RERANKER)
            >>> ranked = model.rank("Where is the cat?", ["The dog ran.", "A cat sat."], top_k=1)
            >>> sorted(ranked[0])
            ['corpus_id', 'score']
        """
        if self.num_labels != 1:
            raise OptionError(
                f"rank needs a model with one label, and this one has {self.num_labels}; predict gives all scores"
            )
        scores = self.predict(
            [(query, document) for document in documents],
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            activation_fn,
            device=device,
        ).tolist()
        ranked: list[dict[str, Any]] = [{"corpus_id": at, "score": score} for at, score in enumerate(scores)]
        if return_documents:
            for each in ranked:
                each["text"] = documents[each["corpus_id"]]
        return sorted(ranked, key=lambda each: each["score"], reverse=True)[:top_k]


def _is_pair(inputs: Any) -> bool:
    """Returns true if the value is one pair of texts, and false if it is a list of pairs."""
    if isinstance(inputs, (list, tuple)):
        return len(inputs) > 0 and not isinstance(inputs[0], (list, tuple)) and not hasattr(inputs[0], "dtype")
    if getattr(getattr(inputs, "dtype", None), "kind", None) in ("U", "O"):
        return bool(inputs.size) and inputs.ndim < 2
    raise TypeError(f"inputs is of type {type(inputs).__name__}; a pair or a list of pairs is expected")


def _split(pairs: list[Any]) -> tuple[list[str], list[str]]:
    """Returns the first texts of all pairs, and the second texts of all pairs."""
    for at, pair in enumerate(pairs):
        if isinstance(pair, str) or len(pair) != 2:
            raise OptionError(f"input {at} is not a pair of texts")
    first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return checked_texts([_text(text) for text in first]), checked_texts([_text(text) for text in second])


def _text(text: Any) -> Any:
    return str(text) if isinstance(text, str) else text


__all__ = ["CrossEncoder"]
