from typing import Any, Callable, Optional, TypedDict, Union, final, type_check_only

__all__ = [
    "Array",
    "Encoded",
    "Model",
    "__version__",
    "adapters",
    "bench",
    "kind_of",
    "quantize",
    "semantic_search",
    "similarity",
    "verify",
    "wait_for_workers",
]

__version__: str

@type_check_only
class Source(TypedDict):
    name: str
    hub: bool
    revision: Optional[str]
    cache_folder: Optional[str]
    local_files_only: bool
    token: Optional[str]

@type_check_only
class LoadOptions(TypedDict):
    dtype: str
    adapter: Union[int, str, None]
    half_fallback: Optional[str]
    activations: Optional[str]
    disable: list[str]
    batch_tokens: Optional[int]
    max_memory: Optional[int]
    lora_task: Optional[str]
    cache_dir: Optional[str]

@type_check_only
class CallOptions(TypedDict):
    prompt: str
    task: Optional[str]
    truncate_dim: Optional[int]
    normalize: bool
    max_seq_length: Optional[int]
    on_too_long: str
    precision: Optional[str]
    logits: bool
    max_active_dims: Optional[int]
    null_on_error: bool

@final
class Array:
    shape: list[int]
    @property
    def __array_interface__(self) -> dict[str, Any]: ...
    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]: ...

@final
class Encoded:
    values: Array
    offsets: Optional[Array]
    indices: Optional[Array]
    dim: int
    truncated: list[int]
    tokens: int
    retried: int
    errors: list[tuple[int, str]]

@final
class Model:
    def __new__(cls, kind: str, source: Source, options: LoadOptions) -> Model: ...
    def inspect(self) -> str: ...
    def precision(self) -> tuple[str, str]: ...
    def adapter(self) -> str: ...
    def dimension(self) -> int: ...
    def default_dimension(self) -> int: ...
    def max_seq_length(self, task: Optional[str]) -> Optional[int]: ...
    def fingerprint(self) -> str: ...
    def tokenize(self, texts: Any, options: CallOptions) -> list[list[int]]: ...
    def token(self, index: int) -> Optional[str]: ...
    def encode(
        self,
        texts: Any,
        second: Optional[list[str]],
        options: CallOptions,
        progress: Optional[Callable[[int], object]] = None,
    ) -> Encoded: ...
    def token_embeddings(
        self, texts: Any, options: CallOptions, progress: Optional[Callable[[int], object]]
    ) -> list[Array]: ...

def adapters() -> str: ...
def kind_of(source: Source) -> str: ...
def similarity(function: str, a: Any, b: Any, pairwise: bool) -> Array: ...
def semantic_search(
    queries: Any, corpus: Any, top_k: int, function: str, model: Optional[Model] = None
) -> list[list[tuple[int, float]]]: ...
def quantize(rows: Any, precision: str) -> Array: ...
def verify(source: Source, options: LoadOptions, texts: Optional[list[str]]) -> tuple[str, str]: ...
def bench(
    source: Source,
    options: LoadOptions,
    precisions: list[str],
    texts: Optional[list[str]],
    quick: bool,
    rounds: Optional[int],
) -> str: ...
def wait_for_workers(seconds: float) -> None: ...
