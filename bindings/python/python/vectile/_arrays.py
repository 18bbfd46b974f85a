"""Arrays of numpy and tensors of torch. Both packages are imported when they are first needed."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

    from . import _core

    NumpyArray = numpy.ndarray[Any, numpy.dtype[Any]]


@cache
def has_torch() -> bool:
    """Returns true if torch can be imported."""
    return importlib.util.find_spec("torch") is not None


def torch() -> Any:
    """Returns the module torch.

    Raises:
        ImportError: torch is not installed.
    """
    if not has_torch():
        raise ImportError("this result is a torch tensor, and torch is not installed; pip install torch")
    import torch

    return torch


def to_numpy(array: _core.Array) -> NumpyArray:
    """Returns an array of the Rust library as a numpy array, without a copy."""
    import numpy

    # numpy reads `__array_interface__` and keeps the object alive.
    return numpy.asarray(array)


def to_tensor(array: Any) -> Any:
    """Returns a numpy array as a tensor, without a copy."""
    return torch().from_numpy(array)


def tensor_or_array(array: Any) -> Any:
    """Returns a tensor of torch, or a numpy array if torch is not installed."""
    return to_tensor(array) if has_torch() else array


def is_tensor(value: Any) -> bool:
    """Returns true if the value is a tensor of torch. The function does not import torch."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def rows_of(value: Any) -> NumpyArray:
    """Returns vectors as a contiguous float32 array of shape `[rows, values]`. One vector becomes one row.

    Raises:
        ValueError: the value does not have one or two dimensions, or its rows differ in length.
    """
    import numpy

    if is_tensor(value):
        value = value.detach().cpu()
        if value.is_sparse:
            value = value.to_dense()
        value = value.float().numpy()
    elif isinstance(value, (list, tuple)) and value and is_tensor(value[0]):
        value = [rows_of(each)[0] for each in value]
    rows = numpy.ascontiguousarray(value, dtype=numpy.float32)
    if rows.ndim == 1:
        rows = rows[numpy.newaxis, :] if rows.size else rows.reshape(0, 0)
    if rows.ndim != 2:
        raise ValueError(f"vectors of shape [rows, values] are expected, not {list(rows.shape)}")
    return rows
