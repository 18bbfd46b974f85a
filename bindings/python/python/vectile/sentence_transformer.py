"""`SentenceTransformer`: one vector for each text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator, Literal, Optional, Sequence, Union, overload

from . import _core, util
from ._arrays import tensor_or_array, to_numpy, to_tensor, torch
from ._base import batch_len, text_batch, text_inputs
from ._device import adapter_of
from ._encoder import Encoder
from ._progress import Bar
from .errors import OptionError

if TYPE_CHECKING:
    from ._arrays import NumpyArray

Texts = Union[str, Sequence[str]]

_PRECISIONS = ("float32", "float16", "int8", "uint8", "binary", "ubinary")


class SentenceTransformer(Encoder):
    """Turns texts into vectors on any GPU. It has the arguments and methods of sentence-transformers' class.

    Args:
        model_name_or_path: a directory, or a name on the Hugging Face Hub such as
            `sentence-transformers/all-MiniLM-L6-v2`.
        device: the adapter. `None` means the best adapter, `"gpu"` the best GPU, `"cuda"` an NVIDIA GPU, `"mps"` an
            Apple GPU and `"cpu"` the CPU. A number is an index in `vectile.adapters()`. Any other string is a part of
            an adapter's name.
        prompts: a dictionary of prompts by name, instead of the model's own prompts.
        default_prompt_name: the name of the prompt that a call uses if it names none.
        similarity_fn_name: `cosine`, `dot`, `euclidean` or `manhattan`, instead of the model's own function.
        truncate_dim: truncates all vectors to this number of values.
        cache_folder, revision, local_files_only, token: the options for downloads from the Hub, as in huggingface_hub.
        model_kwargs: `{"dtype": …}` or `{"torch_dtype": …}`: `"auto"`, `"float32"`, `"float16"`, `"bfloat16"` or a
            dtype of torch. The default, `auto`, keeps the checkpoint's dtype. The property `precision` returns the choice.
        processor_kwargs: `{"model_max_length": n}` truncates texts to n tokens.
        half_fallback: the replacement for f16 on an adapter without f16: `f32`, `packed` or `error`.
        activations: the storage type of activations: `f32` or `f16`.
        disable: features of the adapter that Vectile does not use, such as `shader-f16`.
        batch_tokens: the maximum number of tokens in a batch. Vectors do not depend on this number.
        max_memory: the maximum number of bytes that the model may use.
        lora_task: the task whose LoRA is merged into the weights.
        cache_dir: the directory where facts about adapters are cached.
        modules, config_kwargs, model_card_data, trust_remote_code, backend: are accepted for compatibility with
            sentence-transformers. Vectile never runs Python code of a model, and has only one backend.

    Raises:
        OSError: the model cannot be found. ValueError: a file of the model or an argument has a fault.
        AdapterError: the machine has no adapter that `device` names; the message lists the machine's adapters.

    Example:
        >>> model = SentenceTransformer(MODEL)
        >>> vectors = model.encode(["A cat sat on the roof.", "The dog ran."])
        >>> vectors.shape == (2, model.get_embedding_dimension())
        True
        >>> str(vectors.dtype)
        'float32'
        >>> tuple(model.similarity(vectors, vectors).shape)
        (2, 2)
        >>> model.encode_query("Where is the cat?").shape == (model.get_embedding_dimension(),)
        True
    """

    _kind = "embedding"
    _default_similarity = "cosine"

    def __init__(
        self,
        model_name_or_path: Optional[str] = None,
        *,
        truncate_dim: Optional[int] = None,
        use_auth_token: Union[bool, str, None] = None,
        tokenizer_kwargs: Optional[dict[str, Any]] = None,
        **kwargs: Any,
    ) -> None:
        if use_auth_token is not None:
            kwargs.setdefault("token", use_auth_token)
        if tokenizer_kwargs is not None:
            kwargs.setdefault("processor_kwargs", tokenizer_kwargs)
        super().__init__(model_name_or_path, **kwargs)
        if truncate_dim is None and self._model.default_dimension() < self._model.dimension():
            truncate_dim = self._model.default_dimension()
        #: The number of values to which vectors are truncated; `None` for all values. By default, this is the number in
        #: the model's configuration.
        self.truncate_dim = truncate_dim

    @overload
    def encode(
        self,
        inputs: Texts,
        prompt_name: Optional[str] = ...,
        prompt: Optional[str] = ...,
        batch_size: int = ...,
        show_progress_bar: Optional[bool] = ...,
        output_value: Literal["sentence_embedding"] = ...,
        precision: str = ...,
        convert_to_numpy: Literal[True] = ...,
        convert_to_tensor: Literal[False] = ...,
        device: Any = ...,
        normalize_embeddings: bool = ...,
        truncate_dim: Optional[int] = ...,
        pool: Optional[dict[str, Any]] = ...,
        chunk_size: Optional[int] = ...,
        **kwargs: Any,
    ) -> NumpyArray: ...

    @overload
    def encode(
        self,
        inputs: Any,
        prompt_name: Optional[str] = ...,
        prompt: Optional[str] = ...,
        batch_size: int = ...,
        show_progress_bar: Optional[bool] = ...,
        output_value: Optional[str] = ...,
        precision: str = ...,
        convert_to_numpy: bool = ...,
        convert_to_tensor: bool = ...,
        device: Any = ...,
        normalize_embeddings: bool = ...,
        truncate_dim: Optional[int] = ...,
        pool: Optional[dict[str, Any]] = ...,
        chunk_size: Optional[int] = ...,
        **kwargs: Any,
    ) -> Any: ...

    def encode(
        self,
        inputs: Any = None,
        prompt_name: Optional[str] = None,
        prompt: Optional[str] = None,
        batch_size: int = 32,
        show_progress_bar: Optional[bool] = None,
        output_value: Optional[str] = "sentence_embedding",
        precision: Optional[str] = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: Optional[int] = None,
        pool: Optional[dict[str, Any]] = None,
        chunk_size: Optional[int] = None,
        **kwargs: Any,
    ) -> Any:
        """Returns the vectors of texts.

        Args:
            inputs: a text, a list or tuple of texts, a numpy array of texts, or any object of Arrow (pyarrow, polars,
                pandas, DuckDB) that holds texts. One text gives one vector.
            prompt_name: the name of a prompt that is put before each text.
            prompt: the prompt itself, which takes precedence over `prompt_name`. `""` means no prompt.
            batch_size: must be positive and has no effect, because `batch_tokens` limits batches by their tokens.
            show_progress_bar: shows a progress bar of tqdm. By default, the bar is shown at the logging levels INFO and DEBUG.
            output_value: `sentence_embedding`, `token_embeddings` for the vectors of all tokens before pooling, or
                `None` for a dictionary of both for each text.
            precision: `float32`, `int8`, `uint8`, `binary` or `ubinary`, as in sentence-transformers, or `float16`.
            convert_to_numpy: returns a numpy array that shares the memory of the Rust library. If it is false, the result
                is a list.
            convert_to_tensor: returns one tensor of torch, in host memory.
            device: loads the model on this adapter first. A list of adapters splits the texts among them.
            normalize_embeddings: scales the vectors to length one.
            truncate_dim: truncates the vectors to this number of values. A number above the dimension has no effect.
            pool: the adapters that `start_multi_process_pool` returned.
            chunk_size: the number of texts that each adapter gets at once, if there are several adapters.
            **kwargs: `task` (`"query"` or `"document"`) and `processing_kwargs` of sentence-transformers.

        Returns:
            Vectors of shape `[texts, dimension]` for a list of texts, or `[dimension]` for one text.

        Raises:
            ValueError: the value of an argument is invalid. TypeError: an argument is unknown, or an input is not a text.

        Example:
            >>> model = SentenceTransformer(MODEL)
            >>> model.encode("A cat.", truncate_dim=8, normalize_embeddings=True).shape
            (8,)
            >>> model.encode(["A cat.", "A dog."], precision="ubinary").dtype
            dtype('uint8')
        """
        if "sentences" in kwargs and inputs is None:
            inputs = kwargs.pop("sentences")
        if convert_to_tensor:
            convert_to_numpy = False
        if output_value not in ("sentence_embedding", "token_embeddings", None):
            raise OptionError(f"output_value is {output_value!r}; use sentence_embedding or token_embeddings")
        if output_value != "sentence_embedding":
            convert_to_numpy = convert_to_tensor = False
        self._check_batch_size(batch_size)
        task = kwargs.pop("task", None)
        max_tokens = self._check_kwargs(kwargs)
        if precision is not None and precision not in _PRECISIONS:
            raise OptionError(f"precision is {precision!r}; use one of {', '.join(_PRECISIONS)}")
        call = self._call(
            prompt=self._prompt(prompt, prompt_name),
            task=task,
            truncate_dim=self._width(truncate_dim),
            normalize=normalize_embeddings,
            max_tokens=max_tokens,
            precision=precision,
        )
        texts, single = text_inputs(inputs)
        with Bar(show_progress_bar, batch_len(texts), "Batches") as bar:
            if output_value != "sentence_embedding":
                result: Any = self._token_values(texts, call, output_value, bar)
                if precision not in (None, "float32") and output_value is not None:
                    result = util.quantize_embeddings(result, precision=str(precision))
                return result[0] if single else result
            rows = self._rows(texts, call, device, pool, chunk_size, bar)
        if rows is None:
            if convert_to_tensor:
                return torch().tensor([])
            import numpy

            return numpy.array([]) if convert_to_numpy else []
        if convert_to_tensor:
            rows = to_tensor(rows)
        elif not convert_to_numpy:
            rows = list(tensor_or_array(rows))
        return rows[0] if single else rows

    def _width(self, truncate_dim: Optional[int]) -> int:
        """Returns the number of values of a vector that is truncated to `truncate_dim` values."""
        full = self._model.dimension()
        width = self.truncate_dim if truncate_dim is None else truncate_dim
        if width is None:
            return full
        if width < 1:
            raise OptionError(f"truncate_dim is {width}; at least 1 is expected")
        return min(width, full)

    def _rows(
        self,
        texts: Any,
        call: _core.CallOptions,
        device: Any,
        pool: Optional[dict[str, Any]],
        chunk_size: Optional[int],
        bar: Bar,
    ) -> Any:
        """Returns the vectors as a numpy array, or `None` if there are no texts."""
        models = pool["models"] if pool else None
        if isinstance(device, (list, tuple)) and device:
            models = self._models_on(list(device))
        elif device is not None and not pool:
            self.to(device)
        if models:
            return _spread(models, list(texts), call, chunk_size)
        encoded = self._model.encode(texts, None, call, bar.update)
        return to_numpy(encoded.values) if len(encoded.values) else None

    def _models_on(self, devices: list[Any]) -> list[_core.Model]:
        """Returns a loaded model for each device."""

        def load(device: Any) -> _core.Model:
            adapter = adapter_of(device)
            if self._runs_on(adapter):
                return self._model
            return _core.Model(self._kind, self._source, {**self._options, "adapter": adapter})

        return [load(device) for device in devices]

    def _token_values(
        self, texts: Any, call: _core.CallOptions, output_value: Optional[str], bar: Bar
    ) -> list[Any]:
        """Returns the vectors of all tokens of each text, or dictionaries with all outputs."""
        arrays = self._model.token_embeddings(texts, {**call, "precision": None}, bar.update)
        tokens = [tensor_or_array(to_numpy(array)) for array in arrays]
        if output_value == "token_embeddings":
            return tokens
        ids = self._model.tokenize(texts, call)
        rows = self._model.encode(texts, None, {**call, "precision": None, "normalize": False})
        whole = to_numpy(rows.values)
        return [
            {
                "input_ids": _integers(ids[at]),
                "attention_mask": _integers([1] * len(ids[at])),
                "token_embeddings": tokens[at],
                "sentence_embedding": tensor_or_array(whole[at]),
            }
            for at in range(len(tokens))
        ]

    def encode_arrow(
        self,
        inputs: Any,
        *,
        prompt_name: Optional[str] = None,
        prompt: Optional[str] = None,
        task: Optional[str] = None,
        precision: str = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: Optional[int] = None,
        on_error: Literal["raise", "null"] = "raise",
        show_progress_bar: Optional[bool] = None,
    ) -> _core.Array:
        """Returns the vectors of an Arrow column, as an Arrow array of lists of fixed size. Neither texts nor vectors are
        copied.

        Args:
            inputs: an array, a chunked array, a series or a table of one column, from any library that has Arrow's
                PyCapsule interface; or a list of texts.
            on_error: with `"null"`, a text that is null or cannot be encoded gets null instead of a vector. With
                `"raise"`, such a text is an error.

        Returns:
            An object with `__arrow_c_array__`, which `pyarrow.array`, `polars.Series` and numpy accept.

        Example:
            >>> model = SentenceTransformer(MODEL)
            >>> model.encode_arrow(["A cat.", "A dog."]).shape == [2, model.get_embedding_dimension()]
            True
        """
        if on_error not in ("raise", "null"):
            raise OptionError(f"on_error is {on_error!r}; use raise or null")
        if precision not in _PRECISIONS:
            raise OptionError(f"precision is {precision!r}; use one of {', '.join(_PRECISIONS)}")
        prompt_name = self._prompt_name(task, prompt, prompt_name)
        call = self._call(
            prompt=self._prompt(prompt, prompt_name),
            task=task,
            truncate_dim=self._width(truncate_dim),
            normalize=normalize_embeddings,
            precision=precision,
            null_on_error=on_error == "null",
        )
        return self._encoded(text_batch(inputs), call, show_progress_bar).values

    def tokenize(self, texts: Sequence[str], prompt: Optional[str] = None, **kwargs: Any) -> dict[str, Any]:
        """Returns the token ids of texts, padded on the right with zeros to the longest one.

        Returns:
            `input_ids` and `attention_mask`, of shape `[texts, tokens]`.
        """
        if isinstance(texts, str):
            raise TypeError("tokenize takes a list of texts")
        call = self._call(prompt=prompt or "", max_tokens=self._check_kwargs(kwargs))
        ids = self._model.tokenize(list(texts), call)
        longest = max(map(len, ids), default=0)
        return {
            "input_ids": _integers([row + [0] * (longest - len(row)) for row in ids]),
            "attention_mask": _integers([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
        }

    preprocess = tokenize

    def start_multi_process_pool(self, target_devices: Optional[list[Any]] = None) -> dict[str, Any]:
        """Returns the model, loaded on several adapters, for the argument `pool` of `encode`. By default, these are all
        GPUs of the machine, or its only adapter."""
        from .reports import adapters

        found = adapters()
        chosen = target_devices or [each.index for each in found if not each.is_software] or [found[0].index]
        return {"models": self._models_on(list(chosen)), "input": None, "output": None, "processes": []}

    @staticmethod
    def stop_multi_process_pool(pool: dict[str, Any]) -> None:
        """Unloads the models of a pool."""
        pool["models"] = []

    def get_embedding_dimension(self) -> int:
        """Returns the number of values in a vector."""
        return self._width(None)

    @contextmanager
    def truncate_embeddings(self, truncate_dim: Optional[int]) -> Iterator[None]:
        """Within this context manager, vectors are truncated to `truncate_dim` values.

        Example:
            >>> model = SentenceTransformer(MODEL)
            >>> with model.truncate_embeddings(8):
            ...     model.encode("A cat.").shape
            (8,)
        """
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    truncate_sentence_embeddings = truncate_embeddings


def _integers(values: Any) -> Any:
    import numpy

    return tensor_or_array(numpy.array(values, dtype=numpy.int64))


def _spread(
    models: list[_core.Model], texts: list[str], call: _core.CallOptions, chunk_size: Optional[int]
) -> Any:
    """Encodes chunks of texts on several adapters at once, with one thread for each adapter."""
    if not texts:
        return None
    import numpy

    size = chunk_size or -(-len(texts) // len(models))
    chunks = [texts[at : at + size] for at in range(0, len(texts), size)]
    # int8 and uint8 need the range of each column over all rows, so vectors are quantized at the end.
    late = call["precision"] if call["precision"] in ("int8", "uint8") else None
    options: _core.CallOptions = {**call, "precision": None if late else call["precision"]}
    with ThreadPoolExecutor(len(models)) as threads:
        run = lambda at: to_numpy(models[at % len(models)].encode(chunks[at], None, options).values)
        rows = numpy.concatenate(list(threads.map(run, range(len(chunks)))))
    return util.quantize_embeddings(rows, precision=late) if late else rows


__all__ = ["SentenceTransformer"]
