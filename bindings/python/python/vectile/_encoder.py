"""The parts that the three classes of encoders share: queries and documents, and the function that compares vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Optional, Union

from . import _core, util
from ._base import BaseModel, batch_len
from ._progress import Bar
from .util import SimilarityFunction

#: The names of prompts for each task, the preferred one first.
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
        """The vectors of search queries: `encode` with the prompt named `query` and the task `query`."""
        prompt_name = self._prompt_name("query", prompt, prompt_name)
        return self.encode(inputs, prompt_name, prompt, **{"task": "query", **kwargs})

    def encode_document(
        self, inputs: Any = None, prompt_name: Optional[str] = None, prompt: Optional[str] = None, **kwargs: Any
    ) -> Any:
        """The vectors of documents: `encode` with the task `document` and the first prompt that the model has among
        `document`, `passage` and `corpus`."""
        prompt_name = self._prompt_name("document", prompt, prompt_name)
        return self.encode(inputs, prompt_name, prompt, **{"task": "document", **kwargs})

    def _prompt_name(self, task: Optional[str], prompt: Optional[str], prompt_name: Optional[str]) -> Optional[str]:
        """The caller's `prompt_name`; or else, if there is no `prompt` either, the model's prompt for the task."""
        if prompt is not None or prompt_name is not None:
            return prompt_name
        return next((name for name in _PROMPT_NAMES.get(task or "", ()) if name in self.prompts), None)

    def _encoded(self, texts: Any, call: _core.CallOptions, show: Optional[bool], title: str = "Batches") -> _core.Encoded:
        """Runs the model on a batch of texts, with a progress bar."""
        with Bar(show, batch_len(texts), title) as bar:
            return self._model.encode(texts, None, call, bar.update)

    @property
    def similarity_fn_name(self) -> str:
        """The name of the function that compares vectors. It can be set."""
        if self._similarity_fn_name is None:
            self._similarity_fn_name = self.inspect().similarity or self._default_similarity
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: Union[str, SimilarityFunction, None]) -> None:
        self._similarity_fn_name = util.checked_similarity(value, self._similarities)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The similarities of all vectors of the first list with all of the second, `[rows, rows]`: a tensor of torch,
        or a numpy array where torch is not installed."""
        return util.similarity(self.similarity_fn_name, embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The similarity of each vector of the first list with its counterpart in the second, `[rows]`."""
        return util.similarity_pairwise(self.similarity_fn_name, embeddings1, embeddings2)

    def get_embedding_dimension(self) -> int:
        """The number of values in a vector; for a sparse encoder the number of tokens in the vocabulary."""
        return self._model.dimension()

    def get_sentence_embedding_dimension(self) -> int:
        """The older name of `get_embedding_dimension`."""
        return self.get_embedding_dimension()


__all__ = ["Encoder"]
