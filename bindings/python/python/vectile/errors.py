"""The exceptions of this package.

Each is also an exception of Python's own kinds, so that code written for sentence-transformers catches it: an unknown
prompt is a `ValueError`, a missing model an `OSError`.

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
    """An argument is unknown, or impossible for the model."""


class UnknownArgumentError(OptionError, TypeError):
    """A keyword argument that the method does not have."""


class InputTypeError(OptionError, TypeError):
    """An input that is not a text."""


class ModelFileError(VectileError, OSError):
    """A file or directory of the model is missing or cannot be read."""


class ModelError(VectileError, ValueError):
    """A file of the model has a fault: a config field, a tensor or the tokenizer."""


class UnsupportedModelError(VectileError, NotImplementedError):
    """The model asks for something that Vectile does not compute."""


class HubError(VectileError, OSError):
    """The model cannot be downloaded from the Hugging Face Hub."""


class TooLongError(VectileError, ValueError):
    """A text has more tokens than the model takes, and may not be cut."""


class NonFiniteError(VectileError, ArithmeticError):
    """A vector is infinite or not a number. Such vectors are never returned."""


class AdapterError(VectileError, RuntimeError):
    """There is no suitable adapter (GPU), or it lacks something."""


class GpuMemoryError(VectileError, MemoryError):
    """The model or a batch does not fit into the adapter's memory."""


class DeviceError(VectileError, RuntimeError):
    """The device was lost, or computes wrongly."""


class ForkError(VectileError, RuntimeError):
    """The process was forked after a GPU's driver was opened."""


class InternalError(VectileError, RuntimeError):
    """A fault of Vectile itself. Please report it."""
