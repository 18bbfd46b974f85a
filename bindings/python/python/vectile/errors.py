"""The exceptions of this package.

Each class also derives from a built-in exception of Python, so that code written for sentence-transformers catches it.
For example, an unknown prompt raises a `ValueError`, and a missing model an `OSError`.

>>> issubclass(OptionError, ValueError) and issubclass(OptionError, VectileError)
True
"""

__all__ = [
    "AdapterError",
    "DeviceError",
    "ForkError",
    "GpuMemoryError",
    "HubError",
    "InputTypeError",
    "InternalError",
    "ModelError",
    "ModelFileError",
    "NonFiniteError",
    "OptionError",
    "TooLongError",
    "UnknownArgumentError",
    "UnsupportedModelError",
    "VectileError",
]


class VectileError(Exception):
    """The base of all exceptions of this package."""


class OptionError(VectileError, ValueError):
    """An argument is unknown, or the model does not support its value."""


class UnknownArgumentError(OptionError, TypeError):
    """A keyword argument that the method does not have."""


class InputTypeError(OptionError, TypeError):
    """An input that is not a text."""


class ModelFileError(VectileError, OSError):
    """A file or directory of the model is missing or cannot be read."""


class ModelError(VectileError, ValueError):
    """A file of the model has a fault: a config field, a tensor or the tokenizer."""


class UnsupportedModelError(VectileError, NotImplementedError):
    """The model needs something that Vectile does not compute."""


class HubError(VectileError, OSError):
    """The model cannot be downloaded from the Hugging Face Hub."""


class TooLongError(VectileError, ValueError):
    """A text has more tokens than the model supports, and truncation is not allowed."""


class NonFiniteError(VectileError, ArithmeticError):
    """A vector is infinite or not a number. Such vectors are never returned."""


class AdapterError(VectileError, RuntimeError):
    """There is no suitable adapter (GPU), or the adapter lacks a required feature."""


class GpuMemoryError(VectileError, MemoryError):
    """The model or a batch does not fit into the adapter's memory."""


class DeviceError(VectileError, RuntimeError):
    """The device was lost, or computes wrongly."""


class ForkError(VectileError, RuntimeError):
    """The process was forked after a GPU's driver was opened."""


class InternalError(VectileError, RuntimeError):
    """Vectile itself has a fault. Please report it."""
