"""The base class of the four classes of models, with loading, prompts and properties."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Iterable, Optional, Sequence, TypeVar, Union

from . import _core
from ._arrays import has_torch, torch
from ._device import Device, adapter_of
from .errors import InputTypeError, OptionError, UnknownArgumentError
from .reports import Adapter, Inspection, Precision

Self = TypeVar("Self", bound="BaseModel")

#: Keys of `model_kwargs` that choose how torch computes. Vectile ignores them.
_MEANINGLESS = {
    "attn_implementation",
    "file_name",
    "low_cpu_mem_usage",
    "provider",
    "trust_remote_code",
    "use_safetensors",
}


def default_cache_dir() -> Optional[str]:
    """Returns the directory where facts about adapters are cached. The program `vectile` uses the same directory."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA")
    else:
        home = os.path.expanduser("~")
        base = os.environ.get("XDG_CACHE_HOME") or (home != "~" and os.path.join(home, ".cache")) or None
    return os.path.join(base, "vectile") if base else None


def source_of(
    name: str,
    organization: Optional[str],
    *,
    revision: Optional[str] = None,
    cache_folder: Optional[str] = None,
    local_files_only: bool = False,
    token: Union[bool, str, None] = None,
) -> _core.Source:
    """Returns the place from which a model is loaded: an existing directory, or otherwise a repository of the Hub.

    Raises:
        OSError: the name is a file, or a path that does not exist.
    """
    name = os.fspath(name)
    hub = not os.path.isdir(name)
    if hub and os.path.isfile(name):
        raise NotADirectoryError(f"{name} is a file; give the model's directory or its name on the Hub")
    if hub and (name.count("/") > 1 or "\\" in name or name.startswith((".", "/", "~"))):
        raise FileNotFoundError(f"{name}: there is no such directory")
    if hub and "/" not in name and organization is not None:
        name = f"{organization}/{name}"
    return {
        "name": name,
        "hub": hub,
        "revision": revision,
        "cache_folder": cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME"),
        "local_files_only": bool(local_files_only),
        "token": token if isinstance(token, str) else None,
    }


def load_options(
    device: Device = None,
    dtype: Any = "auto",
    *,
    half_fallback: Optional[str] = None,
    activations: Optional[str] = None,
    disable: Iterable[str] = (),
    batch_tokens: Optional[int] = None,
    max_memory: Optional[int] = None,
    lora_task: Optional[str] = None,
    cache_dir: Optional[str] = None,
) -> _core.LoadOptions:
    """Returns the options with which the library loads a model."""
    if batch_tokens is not None and batch_tokens < 1:
        raise OptionError(f"batch_tokens is {batch_tokens}; at least 1 is expected")
    return {
        "dtype": str(dtype),
        "adapter": adapter_of(device),
        "half_fallback": half_fallback,
        "activations": activations,
        "disable": list(disable),
        "batch_tokens": batch_tokens,
        "max_memory": max_memory,
        "lora_task": lora_task,
        "cache_dir": default_cache_dir() if cache_dir is None else os.fspath(cache_dir),
    }


def is_text_batch(inputs: Any) -> bool:
    """Returns true if the value is a batch of inputs, and false if it is one input."""
    if isinstance(inputs, str):
        return False
    if isinstance(inputs, (list, tuple)):
        return True
    if hasattr(inputs, "__arrow_c_stream__") or hasattr(inputs, "__arrow_c_array__"):
        return True
    kind = getattr(getattr(inputs, "dtype", None), "kind", None)
    return kind in ("U", "O") and getattr(inputs, "ndim", 0) >= 1


def text_batch(inputs: Any) -> Any:
    """Returns the inputs as a list. Objects with an Arrow interface are returned unchanged."""
    if isinstance(inputs, list):
        return checked_texts(inputs)
    if hasattr(inputs, "__arrow_c_stream__") or hasattr(inputs, "__arrow_c_array__"):
        return inputs
    return checked_texts(inputs.tolist() if hasattr(inputs, "tolist") else list(inputs))


def checked_texts(texts: list[Any]) -> list[str]:
    """Returns the inputs as a list of texts.

    Raises:
        InputTypeError: an item is not a text.
    """
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputTypeError(f"input {at} is of type {type(text).__name__}; a string is expected")
    return texts


def text_inputs(inputs: Any) -> tuple[Any, bool]:
    """Returns the inputs as a batch of texts, and true if they were a single text."""
    single = not is_text_batch(inputs)
    return (checked_texts([inputs]) if single else text_batch(inputs)), single


def batch_len(inputs: Any) -> int:
    """Returns the number of inputs, or 0 if this number is unknown."""
    try:
        return len(inputs)
    except TypeError:
        return 0


class CardData:
    """Receives the figures that evaluators of sentence-transformers report to a model card. Vectile has no model cards."""

    def set_evaluation_metrics(self, *_: Any, **__: Any) -> None:
        """Ignores the figures."""


class BaseModel:
    """A loaded model. See `SentenceTransformer` for the arguments that all classes share."""

    _kind: ClassVar[str]
    _organization: ClassVar[Optional[str]] = "sentence-transformers"
    _default_prompts: ClassVar[dict[str, Optional[str]]] = {}

    def __init__(
        self,
        model_name_or_path: Optional[str] = None,
        *,
        modules: Any = None,
        device: Device = None,
        prompts: Optional[dict[str, str]] = None,
        default_prompt_name: Optional[str] = None,
        cache_folder: Optional[str] = None,
        trust_remote_code: bool = False,
        revision: Optional[str] = None,
        local_files_only: bool = False,
        token: Union[bool, str, None] = None,
        model_kwargs: Optional[dict[str, Any]] = None,
        processor_kwargs: Optional[dict[str, Any]] = None,
        config_kwargs: Optional[dict[str, Any]] = None,
        model_card_data: Any = None,
        backend: str = "torch",
        half_fallback: Optional[str] = None,
        activations: Optional[str] = None,
        disable: Sequence[str] = (),
        batch_tokens: Optional[int] = None,
        max_memory: Optional[int] = None,
        lora_task: Optional[str] = None,
        cache_dir: Optional[str] = None,
    ) -> None:
        if modules is not None:
            raise OptionError(
                "modules: modules of torch cannot be run; save the model with save_pretrained and give its directory"
            )
        if model_name_or_path is None:
            raise OptionError("model_name_or_path is missing; give a directory or a name on the Hub")
        if backend not in ("torch", "onnx", "openvino"):
            raise OptionError(f"backend is {backend!r}; leave it out, since Vectile has one backend")
        self._source = source_of(
            model_name_or_path,
            self._organization,
            revision=revision,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
            token=token,
        )
        kwargs = {**(config_kwargs or {}), **(model_kwargs or {})}
        dtype = kwargs.pop("dtype", None) or kwargs.pop("torch_dtype", None) or "auto"
        kwargs.pop("torch_dtype", None)
        device_map = kwargs.pop("device_map", None)
        if isinstance(device_map, dict):
            raise OptionError("device_map: a model runs on one adapter; give one device")
        if device_map is not None and device_map != "auto":
            device = device_map
        if unknown := sorted(set(kwargs) - _MEANINGLESS):
            raise UnknownArgumentError(
                f"model_kwargs: {', '.join(unknown)} is not known; dtype (or torch_dtype) and device_map are"
            )
        processor = dict(processor_kwargs or {})
        self._max_tokens: Optional[int] = processor.pop("model_max_length", None)
        if processor:
            raise UnknownArgumentError(
                f"processor_kwargs: {', '.join(sorted(processor))} is not known; model_max_length is"
            )
        self._options = load_options(
            device,
            dtype,
            half_fallback=half_fallback,
            activations=activations,
            disable=disable,
            batch_tokens=batch_tokens,
            max_memory=max_memory,
            lora_task=lora_task,
            cache_dir=cache_dir,
        )
        self.model_card_data = model_card_data or CardData()
        self.trust_remote_code = trust_remote_code
        self.backend = backend
        self._load()
        self._set_prompts(prompts, default_prompt_name)

    def _load(self) -> None:
        self._model = _core.Model(self._kind, self._source, self._options)
        self._inspection: Optional[Inspection] = None

    def _set_prompts(self, prompts: Optional[dict[str, str]], default: Optional[str]) -> None:
        merged = {**self._default_prompts, **(prompts or {})}
        described = self.inspect()
        for name, prompt in described.prompts.items():
            if merged.get(name) is None:
                merged[name] = prompt
        self.prompts: dict[str, str] = {name: prompt or "" for name, prompt in merged.items()}
        self.default_prompt_name = described.default_prompt_name if default is None else default
        if self.default_prompt_name is not None and self.default_prompt_name not in self.prompts:
            raise OptionError(
                f"default_prompt_name: {self.default_prompt_name!r} is not a prompt of the model; it has "
                f"{sorted(self.prompts)}"
            )

    def _prompt(self, prompt: Optional[str], prompt_name: Optional[str]) -> str:
        """Returns the prompt that a call uses, or the empty string if it uses none."""
        if prompt is not None:
            if not isinstance(prompt, str):
                raise TypeError(f"prompt is of type {type(prompt).__name__}; a string is expected")
            return prompt
        if prompt_name is not None:
            try:
                return self.prompts[prompt_name]
            except KeyError:
                raise OptionError(
                    f"prompt_name: {prompt_name!r} is not a prompt of the model; it has {sorted(self.prompts)}"
                ) from None
        if self.default_prompt_name is not None:
            return self.prompts.get(self.default_prompt_name) or ""
        return ""

    def _call(
        self,
        *,
        prompt: str,
        task: Optional[str] = None,
        truncate_dim: Optional[int] = None,
        normalize: bool = False,
        max_tokens: Optional[int] = None,
        precision: Optional[str] = None,
        logits: bool = False,
        max_active_dims: Optional[int] = None,
        on_too_long: str = "truncate",
        null_on_error: bool = False,
    ) -> _core.CallOptions:
        return {
            "prompt": prompt,
            "task": task,
            "truncate_dim": truncate_dim,
            "normalize": bool(normalize),
            "max_seq_length": self._max_tokens if max_tokens is None else max_tokens,
            "on_too_long": on_too_long,
            "precision": precision,
            "logits": logits,
            "max_active_dims": max_active_dims,
            "null_on_error": null_on_error,
        }

    def _check_kwargs(self, kwargs: dict[str, Any]) -> Optional[int]:
        """Returns the maximum length that `processing_kwargs` sets. Unknown arguments are an error."""
        processing = kwargs.pop("processing_kwargs", None)
        if kwargs:
            raise UnknownArgumentError(
                f"{type(self).__name__}.encode() has no argument {', '.join(sorted(kwargs))}"
            )
        if processing is None:
            return None
        text = dict(processing.get("text", processing.get("common", {})))
        length = text.pop("max_length", None)
        truncation = text.pop("truncation", True)
        text.pop("padding", None)
        if text or truncation not in (True, "longest_first"):
            raise OptionError("processing_kwargs: only max_length of text can be set")
        return None if length is None else int(length)

    @staticmethod
    def _check_batch_size(batch_size: int) -> None:
        if batch_size <= 0:
            raise OptionError(f"batch_size must be a positive integer, got {batch_size}.")

    def inspect(self) -> Inspection:
        """Describes the model and how it runs on this machine: modules, precision, adapter, tensors.

        Returns:
            An `Inspection`; its `raw` has everything that `vectile inspect --json` prints.
        """
        if self._inspection is None:
            self._inspection = Inspection.of(self._model)
        return self._inspection

    @property
    def precision(self) -> Precision:
        """Returns the model's precision: the requested dtype, the chosen storage types, and the reasons."""
        return self.inspect().precision

    @property
    def adapter(self) -> Adapter:
        """Returns the adapter that the model runs on."""
        return self.inspect().adapter

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the files that determine the results: the configuration, the tokenizer and the weights."""
        return self._model.fingerprint()

    @property
    def device(self) -> Any:
        """Returns torch's device `cpu`, where results are. `adapter` returns the GPU that computes them."""
        return torch().device("cpu") if has_torch() else "cpu"

    def to(self: Self, device: Device) -> Self:
        """Loads the model on another adapter. The argument `device` means the same as in the constructor."""
        adapter = adapter_of(device)
        if not self._runs_on(adapter):
            self._options = {**self._options, "adapter": adapter}
            self._load()
        return self

    def _runs_on(self, adapter: Union[int, str, None]) -> bool:
        """Returns true if the model is loaded on the adapter that `adapter_of` returned."""
        if adapter == "cpu" and self.adapter.is_cpu:
            return True
        return adapter is None or adapter in (self._options["adapter"], self.adapter.index)

    def _use(self, device: Any) -> None:
        """Loads the model on the device that a call names. A list of devices is ignored."""
        if not isinstance(device, (list, tuple)):
            self.to(device)

    def _reloaded(self: Self, dtype: str) -> Self:
        self._options = {**self._options, "dtype": dtype}
        self._load()
        return self

    def half(self: Self) -> Self:
        """Loads the model again in float16."""
        return self._reloaded("float16")

    def bfloat16(self: Self) -> Self:
        """Loads the model again in bfloat16."""
        return self._reloaded("bfloat16")

    def float(self: Self) -> Self:
        """Loads the model again in float32."""
        return self._reloaded("float32")

    def eval(self: Self) -> Self:
        """Returns the model unchanged, because Vectile never trains."""
        return self

    @property
    def max_seq_length(self) -> Optional[int]:
        """Returns the maximum number of tokens of a text; longer texts are truncated. Returns `None` if there is no limit."""
        if self._max_tokens is not None:
            return self._max_tokens
        return self._model.max_seq_length("document" if self._kind == "multi-vector" else None)

    @max_seq_length.setter
    def max_seq_length(self, value: Optional[int]) -> None:
        self._max_tokens = value

    def get_max_seq_length(self) -> Optional[int]:
        """Returns the value of `max_seq_length`."""
        return self.max_seq_length

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source['name']!r}, {self.precision}, {self.adapter})"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"a {type(self).__name__} holds a GPU and cannot be pickled; load the model in each process"
        )


__all__ = ["BaseModel"]
