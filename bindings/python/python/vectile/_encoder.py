"""The parts that the three classes of encoders share: queries and documents, and the function that compares vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Optional, Union

from . import _core, util
from ._base import BaseModel, batch_len
from ._progress import Bar
from .util import SimilarityFunction

#: The names of prompts for each task, the preferred name first.
_PROMPT_NAMES = {"query": ("query",), "document": ("document", "passage", "corpus")}


class Encoder(BaseModel):
    """A model that turns each text into vectors. See `SentenceTransformer` for the arguments that all classes share."""

    _default_prompts = {"query": None, "document": None}
    #: The functions that can compare the vectors.
    _similarities: ClassVar[tuple[str, ...]] = util.SIMILARITIES
    #: The function that compares the vectors if the model names none.
    _default_similarity: ClassVar[str]

    def __init__(
        self,
        model_name_or_path: Optional[str] = None,
        *,
        similarity_fn_name: Union[str, SimilarityFunction, None] = None,
        **kwargs: Any,
    ) -> None:
        self._similarity_fn_name = util.checked_similarity(similarity_fn_name, self._similarities)
        super().__init__(model_name_or_path, **kwargs)

    if TYPE_CHECKING:

        def encode(self, *args: Any, **kwargs: Any) -> Any: ...

    def encode_query(self, inputs: Any = None, prompt_name: Optional[str] = None, prompt: Optional[str] = None, **kwargs: Any) -> Any:
        """Returns the vectors of search queries. Calls `encode` with the prompt named `query` and the task `query`."""
        prompt_name = self._prompt_name("query", prompt, prompt_name)
        return self.encode(inputs, prompt_name, prompt, **{"task": "query", **kwargs})

    def encode_document(
        self, inputs: Any = None, prompt_name: Optional[str] = None, prompt: Optional[str] = None, **kwargs: Any
    ) -> Any:
        """Returns the vectors of documents. Calls `encode` with the task `document` and with the first of the prompts
        `document`, `passage` and `corpus` that the model has."""
        prompt_name = self._prompt_name("document", prompt, prompt_name)
        return self.encode(inputs, prompt_name, prompt, **{"task": "document", **kwargs})

    def _prompt_name(self, task: Optional[str], prompt: Optional[str], prompt_name: Optional[str]) -> Optional[str]:
        """Returns the caller's `prompt_name`. If the caller gives neither `prompt_name` nor `prompt`, returns the name of
        the model's prompt for the task."""
        if prompt is not None or prompt_name is not None:
            return prompt_name
        return next((name for name in _PROMPT_NAMES.get(task or "", ()) if name in self.prompts), None)

    def _encoded(self, texts: Any, call: _core.CallOptions, show: Optional[bool], title: str = "Batches") -> _core.Encoded:
        """Runs the model on a batch of texts, with a progress bar."""
        with Bar(show, batch_len(texts), title) as bar:
            return self._model.encode(texts, None, call, bar.update)

    @property
    def similarity_fn_name(self) -> str:
        """Returns the name of the function that compares vectors. This property can be set."""
        if self._similarity_fn_name is None:
            self._similarity_fn_name = self.inspect().similarity or self._default_similarity
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: Union[str, SimilarityFunction, None]) -> None:
        self._similarity_fn_name = util.checked_similarity(value, self._similarities)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns the similarity of each vector in the first list with each vector in the second list, `[rows, rows]`.
        The result is a tensor of torch, or a numpy array if torch is not installed."""
        return util.similarity(self.similarity_fn_name, embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns the similarity of each vector in the first list with the vector at the same index in the second, `[rows]`."""
        return util.similarity_pairwise(self.similarity_fn_name, embeddings1, embeddings2)

    def get_embedding_dimension(self) -> int:
        """Returns the number of values in a vector. For a sparse encoder, this is the number of tokens in the vocabulary."""
        return self._model.dimension()

    def get_sentence_embedding_dimension(self) -> int:
        """Returns the result of `get_embedding_dimension`, of which this is the older name."""
        return self.get_embedding_dimension()


__all__ = ["Encoder"]
