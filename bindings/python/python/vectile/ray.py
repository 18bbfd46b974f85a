"""Ray: embeds any number of texts on any number of machines.

    import ray
    import vectile.ray

    texts = ray.data.read_parquet("texts/")
    vectile.ray.embed_dataset(texts, "models/all-MiniLM-L6-v2", concurrency=2).write_parquet("vectors/")

Each actor loads the model once, on the adapter of its machine. `docs/scale-out.md` describes clusters, checkpoints and
costs. This module needs the packages ray[data] and pyarrow.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from typing import Any, Literal, Optional, Sequence, Union

from .errors import OptionError, VectileError
from .sentence_transformer import SentenceTransformer

__all__ = ["EmbedActor", "RESOURCE", "checkpoint", "embed_dataset"]

#: The custom resource of machines with an adapter. Ray's own resource `GPU` counts only the devices that Ray knows,
#: such as those of CUDA.
RESOURCE = "wgpu"

#: Open files, one for each adapter that this process has locked. The system releases the locks when the process ends.
_held: list[Any] = []


def _own_device(devices: Sequence[Union[int, str]]) -> Union[int, str]:
    """Returns the first of the devices that no other actor of this machine uses. If all are in use, actors share them."""
    try:
        import fcntl
    except ImportError:  # This system has no file locks.
        return devices[os.getpid() % len(devices)]
    for device in devices:
        name = f"vectile-{os.getuid()}-{re.sub(r'[^A-Za-z0-9]+', '-', str(device))}.lock"
        file = open(os.path.join(tempfile.gettempdir(), name), "w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        _held.append(file)
        return device
    return devices[os.getpid() % len(devices)]


class EmbedActor:
    """Embeds the batches of a dataset: the class for `Dataset.map_batches` with the batch format `pyarrow`.

    Args:
        model: a directory that every machine has, or a name on the Hub.
        column: the column with the texts.
        output: the name of the column for the vectors.
        on_error: with `"null"`, a text that is null or cannot be encoded gets null instead of a vector. With `"raise"`,
            such a text is an error.
        devices: the adapters of a machine. Each actor uses one that no other actor of the machine uses. If there are more
            actors than adapters, actors share adapters. By default, an actor uses the best adapter.
        encode_kwargs: arguments of `SentenceTransformer.encode_arrow`, such as `task` and `precision`.
        load_kwargs: arguments of `SentenceTransformer`.

    Raises:
        RuntimeError: the model cannot be loaded; the message names the machine.
    """

    def __init__(
        self,
        model: str,
        column: str = "text",
        output: str = "embedding",
        on_error: Literal["raise", "null"] = "raise",
        devices: Optional[Sequence[Union[int, str]]] = None,
        encode_kwargs: Optional[dict[str, Any]] = None,
        load_kwargs: Optional[dict[str, Any]] = None,
    ) -> None:
        self.column, self.output, self.on_error = column, output, on_error
        self.encode_kwargs = encode_kwargs or {}
        kwargs = dict(load_kwargs or {})
        if devices:
            kwargs["device"] = _own_device(devices)
        try:
            self.model = SentenceTransformer(model, **kwargs)
        except (VectileError, OSError) as error:
            raise RuntimeError(
                f"machine {socket.gethostname()} cannot load {model}: {error}"
            ) from error

    def __call__(self, batch: Any) -> Any:
        """Returns the batch with an added column of vectors, which are lists of fixed size."""
        import pyarrow  # type: ignore[import-untyped, unused-ignore]

        if self.column not in batch.column_names:
            raise OptionError(f"the dataset has no column {self.column!r}; it has {batch.column_names}")
        texts = batch[self.column]
        vectors = self.model.encode_arrow(texts, on_error=self.on_error, **self.encode_kwargs)
        return batch.append_column(self.output, pyarrow.array(vectors))


def checkpoint(id_column: str, path: str) -> None:
    """Makes Ray record finished rows, so that a killed run can continue where it stopped.

    Ray records the rows of an output file when the file is complete. After a failure, run the same program again. Rows
    whose id is recorded are not embedded again.

    Args:
        id_column: a column with unique values, which the output must contain too.
        path: a directory that all machines share.
    """
    import ray.data
    from ray.data.checkpoint import CheckpointConfig

    context = ray.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(id_column=id_column, checkpoint_path=path)


def embed_dataset(
    dataset: Any,
    model: str,
    *,
    column: str = "text",
    output: str = "embedding",
    on_error: Literal["raise", "null"] = "raise",
    concurrency: Union[int, tuple[int, int]] = 1,
    batch_size: int = 512,
    devices: Optional[Sequence[Union[int, str]]] = None,
    resource: Optional[str] = RESOURCE,
    encode_kwargs: Optional[dict[str, Any]] = None,
    load_kwargs: Optional[dict[str, Any]] = None,
    actor: type[EmbedActor] = EmbedActor,
) -> Any:
    """Returns a dataset of Ray with an added column of vectors. The vectors are computed when the dataset is consumed.

    Args:
        dataset: a `ray.data.Dataset` with a column of texts.
        model, column, output, on_error, devices, encode_kwargs, load_kwargs: as for `EmbedActor`.
        concurrency: the number of actors, or the minimum and the maximum.
        batch_size: the number of rows that an actor gets at once.
        resource: the custom resource of which each actor takes one unit, or `None` if the machines declare none. Start a
            machine with `ray start --resources '{"wgpu": 1}'`, where 1 is the number of its adapters.
        actor: the class of the actors: `EmbedActor` or a subclass, for example one that cleans texts first.

    Returns:
        The dataset with the column `output`.

    Raises:
        RuntimeError: no machine of the cluster declares the resource.
    """
    import ray
    from ray.data import ActorPoolStrategy

    if resource is not None and ray.is_initialized() and not ray.cluster_resources().get(resource):
        raise RuntimeError(
            f"no machine of the cluster has the resource {resource!r}, so that no actor could start; start machines with "
            f"--resources '{{\"{resource}\": 1}}', or give resource=None"
        )
    low, high = (concurrency, concurrency) if isinstance(concurrency, int) else concurrency
    return dataset.map_batches(
        actor,
        fn_constructor_kwargs={
            "model": os.path.abspath(model) if os.path.isdir(model) else model,
            "column": column,
            "output": output,
            "on_error": on_error,
            "devices": devices,
            "encode_kwargs": encode_kwargs,
            "load_kwargs": load_kwargs,
        },
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ActorPoolStrategy(min_size=low, max_size=high),
        resources=None if resource is None else {resource: 1},
    )
