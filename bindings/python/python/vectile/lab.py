"""`verify` checks that a model computes correctly on an adapter, and `bench` measures each precision."""

from __future__ import annotations

from typing import Any, Optional, Sequence

from . import _core
from ._base import load_options, source_of
from ._device import Device
from .reports import BenchReport, Verification

__all__ = ["bench", "verify"]

_SOURCE = ("revision", "cache_folder", "local_files_only", "token")


def verify(
    model: str, *, device: Device = None, dtype: Any = "auto", texts: Optional[Sequence[str]] = None, **kwargs: Any
) -> Verification:
    """Checks a model on an adapter. Runs the known-answer test of every kernel, compares the vectors with those in f32 and
    with reference vectors if there are any, and decides whether f16 is safe for the model. Later loads follow this verdict.

    Args:
        model: a directory or a name on the Hub.
        device, dtype: the adapter and the dtype, as for `SentenceTransformer`.
        texts: the texts to measure on; by default built-in ones.
        **kwargs: arguments of `SentenceTransformer` for finding and loading a model.
    """
    source = {name: kwargs.pop(name) for name in _SOURCE if name in kwargs}
    return Verification.of(
        *_core.verify(
            source_of(model, "sentence-transformers", **source),
            load_options(device, dtype, **kwargs),
            None if texts is None else list(texts),
        )
    )


def bench(
    model: str,
    *,
    device: Device = None,
    precisions: Sequence[str] = (),
    texts: Optional[Sequence[str]] = None,
    quick: bool = False,
    rounds: Optional[int] = None,
    **kwargs: Any,
) -> BenchReport:
    """Measures speed, memory and accuracy of a model in several precisions on one adapter.

    Args:
        model: a directory or a name on the Hub.
        precisions: a list such as `["f16", "packed_bf16"]`; f32 is always added. By default, all precisions are measured.
        texts: the texts to run; by default built-in ones.
        quick: runs fewer precisions and rounds.
        rounds: the number of rounds of each measurement.
    """
    source = {name: kwargs.pop(name) for name in _SOURCE if name in kwargs}
    return BenchReport.of(
        _core.bench(
            source_of(model, "sentence-transformers", **source),
            load_options(device, **kwargs),
            list(precisions),
            None if texts is None else list(texts),
            quick,
            rounds,
        )
    )
