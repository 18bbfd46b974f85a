"""Text embeddings on any GPU, with the classes and arguments of sentence-transformers.

    >>> from vectile import SentenceTransformer
    >>> model = SentenceTransformer(MODEL, model_kwargs={"torch_dtype": "auto"})
    >>> vectors = model.encode(["A cat sat on the roof.", "The dog ran."])
    >>> vectors.shape == (2, model.get_embedding_dimension())
    True

`SentenceTransformer`, `CrossEncoder`, `SparseEncoder` and `MultiVectorEncoder` take the arguments of the classes with
the same names in sentence-transformers, and return the same vectors. WGSL shaders compute the vectors through Vulkan,
Metal or DX12. `vectile.util` has functions on vectors, `adapters()` lists the GPUs and the CPU, `verify` checks a model
on an adapter, and `bench` measures its speed.
"""

import atexit
import os
import sys

from . import util
from ._core import __version__, wait_for_workers
from .cross_encoder import CrossEncoder
from .errors import VectileError
from .lab import bench, verify
from .multi_vector_encoder import MultiVectorEncoder
from .reports import (
    Adapter,
    BenchReport,
    Inspection,
    Precision,
    PrecisionTiming,
    Verification,
    adapters,
)
from .sentence_transformer import SentenceTransformer
from .sparse_encoder import SparseEncoder
from .util import SimilarityFunction

__all__ = [
    "Adapter",
    "BenchReport",
    "CrossEncoder",
    "Inspection",
    "MultiVectorEncoder",
    "Precision",
    "PrecisionTiming",
    "SentenceTransformer",
    "SimilarityFunction",
    "SparseEncoder",
    "VectileError",
    "Verification",
    "__version__",
    "adapters",
    "bench",
    "util",
    "verify",
]

# Mesa's device-select layer, which Vulkan loads into the process, opens a Wayland display. Without this variable,
# libwayland prints an error on stderr that has nothing to do with this package.
if sys.platform == "linux" and not os.path.isabs(os.environ.get("XDG_RUNTIME_DIR", "")):
    os.environ["XDG_RUNTIME_DIR"] = "/dev/null"

# A driver must not run while the process exits. A call that Ctrl-C interrupted finishes its current batch first.
atexit.register(wait_for_workers, 30.0)
