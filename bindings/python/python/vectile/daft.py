"""Daft: `embed_text`, an expression that embeds a column of a data frame.

    import daft
    from vectile.daft import embed_text

    frame = daft.read_parquet("texts/")
    frame = frame.with_column("embedding", embed_text(frame["text"], "models/all-MiniLM-L6-v2"))

This module needs the package daft. On a cluster, Daft runs on Ray.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Literal, Optional

import daft

from .sentence_transformer import SentenceTransformer

__all__ = ["embed_text"]

#: The models of this process, by their directories and their arguments. Daft makes several instances of a class in one
#: process, for example one for each core, and a model may be called from many threads.
_models: weakref.WeakValueDictionary[str, SentenceTransformer] = weakref.WeakValueDictionary()
#: Models that `embed_text` loaded, kept until Daft makes the first instance.
_unused: dict[str, SentenceTransformer] = {}
_loading = threading.Lock()


def _key(model: str, load_kwargs: dict[str, Any]) -> str:
    return repr((os.getpid(), model, sorted(load_kwargs.items(), key=lambda item: item[0])))


def _model(model: str, load_kwargs: dict[str, Any]) -> SentenceTransformer:
    """Returns the model of this process, which is loaded by the first call."""
    key = _key(model, load_kwargs)
    with _loading:
        found = _unused.pop(key, None) or _models.get(key)
        if found is None:
            found = _models[key] = SentenceTransformer(model, **load_kwargs)
        return found


class _Encoder:
    """The class that Daft instantiates in its workers. All instances in a process share one model."""

    def __init__(self, model: str, arguments: dict[str, Any], load_kwargs: dict[str, Any]) -> None:
        self.model = _model(model, load_kwargs)
        self.arguments = arguments

    def encode(self, texts: daft.Series) -> Any:
        import pyarrow  # type: ignore[import-untyped, unused-ignore]

        return pyarrow.array(self.model.encode_arrow(texts.to_arrow(), **self.arguments))


def embed_text(
    texts: Any,
    model: str,
    *,
    on_error: Literal["raise", "null"] = "raise",
    workers: int = 1,
    batch_size: int = 512,
    encode_kwargs: Optional[dict[str, Any]] = None,
    load_kwargs: Optional[dict[str, Any]] = None,
    ray_options: Optional[dict[str, Any]] = None,
) -> Any:
    """Returns an expression whose values are the vectors of a column of texts, as lists of fixed size.

    Args:
        texts: an expression, such as `frame["text"]`.
        model: a directory that every machine has, or a name on the Hub.
        on_error: with `"null"`, a text that is null or cannot be encoded gets null instead of a vector. With `"raise"`,
            such a text is an error.
        workers: the number of processes, each of which loads the model once. With 1, the model runs in Daft's process.
        batch_size: the number of rows that a worker gets at once.
        encode_kwargs: arguments of `SentenceTransformer.encode_arrow`, such as `task`. The precision must be float32.
        load_kwargs: arguments of `SentenceTransformer`.
        ray_options: options of Ray's actors, such as `{"resources": {"wgpu": 1}}`, if Daft runs on Ray.

    Raises:
        VectileError: the model cannot be loaded.
    """
    path = os.path.abspath(model) if os.path.isdir(model) else model
    arguments = dict(encode_kwargs or {}, on_error=on_error)
    load_kwargs = load_kwargs or {}
    # The type of the column must be known before the model runs, so the number of values of a vector is determined here.
    width = arguments.get("truncate_dim")
    if width is None:
        loaded = _model(path, load_kwargs)
        width = loaded.get_embedding_dimension()
        if workers == 1 and daft.get_or_infer_runner_type() == "native":
            _unused[_key(path, load_kwargs)] = loaded
    encode = daft.method.batch(
        return_dtype=daft.DataType.fixed_size_list(daft.DataType.float32(), width), batch_size=batch_size
    )
    # Each call makes a new class, because Daft's decorators change the class.
    encoder = type("VectileEncoder", (_Encoder,), {"encode": encode(_Encoder.encode)})
    options: dict[str, Any] = {"ray_options": ray_options} if ray_options else {}
    # By default, Daft may move a class to another process, which would load the model again.
    options.update({"use_process": True, "max_concurrency": workers} if workers > 1 else {"use_process": False})
    return daft.cls(encoder, **options)(path, arguments, load_kwargs).encode(texts)
