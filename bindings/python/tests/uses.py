"""Uses every public name of the package with its type. mypy checks this file in strict mode; nothing runs it."""

from typing import Optional

import numpy

import vectile
from vectile import (
    Adapter,
    BenchReport,
    CrossEncoder,
    Inspection,
    MultiVectorEncoder,
    Precision,
    PrecisionTiming,
    SentenceTransformer,
    SimilarityFunction,
    SparseEncoder,
    VectileError,
    Verification,
    adapters,
    bench,
    errors,
    util,
    verify,
)

Rows = numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.float32]]

version: str = vectile.__version__


def describe(adapter: Adapter, precision: Precision) -> str:
    number: int = adapter.index
    kinds: list[bool] = [adapter.is_cpu, adapter.is_software, adapter.shader_f16]
    words: list[str] = [adapter.name, adapter.device_type, adapter.backend, adapter.driver, str(adapter)]
    words += [precision.requested, precision.checkpoint, precision.weights, precision.activations, precision.sentence]
    size: int = precision.weight_bytes + number + sum(kinds)
    raw: list[dict[str, object]] = [adapter.raw, precision.raw, Adapter.of(adapter.raw).raw]
    again: Precision = Precision.of(precision.sentence, precision.raw)
    return f"{words} {size} {raw} {again} {', '.join(precision.reasons)}"


def inspect(found: Inspection) -> None:
    texts: list[str] = [found.model, found.model_type, *found.modules, *found.notes, *found.prompts.values()]
    optional: list[str | None] = [found.similarity, found.default_prompt_name]
    numbers: list[int | None] = [found.dimension, found.max_seq_length, found.batch_tokens]
    print(texts, optional, numbers, describe(found.adapter, found.precision), found.raw, Inspection.of)


def dense() -> None:
    model = SentenceTransformer("model", device=None, model_kwargs={"dtype": "auto"}, truncate_dim=8)
    rows: Rows = model.encode(["a"])
    for vectors in (model.encode_query("a"), model.encode_document(["a"], normalize_embeddings=True)):
        print(model.similarity(rows, vectors), model.similarity_pairwise(rows, vectors))
    arrow = model.encode_arrow(["a"], on_error="null")
    shape: list[int] = arrow.shape
    dimensions: list[int] = [model.get_embedding_dimension(), model.get_sentence_embedding_dimension(), *shape]
    lengths: list[int | None] = [model.max_seq_length, model.get_max_seq_length(), model.truncate_dim, *dimensions]
    model.max_seq_length = 128
    model.similarity_fn_name = SimilarityFunction.COSINE
    names: list[str | None] = [model.similarity_fn_name, model.default_prompt_name, model.fingerprint()]
    prompts: dict[str, str] = model.prompts
    with model.truncate_embeddings(4), model.truncate_sentence_embeddings(4):
        print(model.tokenize(["a"]), model.preprocess(["a"]), lengths, names, prompts, model.device)
    pool = model.start_multi_process_pool(["cpu"])
    print(model.encode(["a"], pool=pool))
    model.stop_multi_process_pool(pool)
    same: SentenceTransformer = model.to("cpu").half().bfloat16().float().eval()
    print(describe(same.adapter, same.precision))
    inspect(same.inspect())


def others() -> None:
    reranker = CrossEncoder("model", num_labels=1)
    ranked: list[dict[str, object]] = list(reranker.rank("a", ["b"]))
    labels: int = reranker.num_labels
    length: int | None = reranker.max_length
    print(reranker.predict([("a", "b")]), ranked, labels, length)
    sparse = SparseEncoder("model")
    tokens = sparse.encode(["a"])
    share: dict[str, float] = sparse.sparsity(tokens)
    print(sparse.decode(tokens, top_k=3), share)
    late = MultiVectorEncoder("model")
    print(late.similarity(late.encode_query(["a"]), late.encode_document(["b"])), late.encode("a"))


def functions(rows: Rows, model: SentenceTransformer) -> None:
    for all_pairs in (util.cos_sim, util.pytorch_cos_sim, util.dot_score, util.euclidean_sim, util.manhattan_sim):
        print(all_pairs(rows, rows))
    pairs = (util.pairwise_cos_sim, util.pairwise_dot_score, util.pairwise_euclidean_sim, util.pairwise_manhattan_sim)
    print([function(rows, rows) for function in pairs], util.maxsim([rows], [rows]))
    hits = util.semantic_search(rows, rows, top_k=1, score_function=util.dot_score, model=model)
    score: float | int = hits[0][0]["score"]
    print(util.normalize_embeddings(rows), util.quantize_embeddings(rows, "int8"), util.truncate_embeddings(rows, 4), score)
    functions = (util.SimilarityFunction.to_similarity_fn("dot"), SimilarityFunction.to_similarity_pairwise_fn("dot"))
    words: list[str] = SimilarityFunction.possible_values()
    values = (SimilarityFunction.DOT, SimilarityFunction.DOT_PRODUCT, SimilarityFunction.EUCLIDEAN, SimilarityFunction.MANHATTAN)
    print(functions, words, values)


def reports() -> None:
    verification: Verification = verify("model", texts=["a"])
    passed: bool = verification.passed
    agrees_with_cpu: Optional[bool] = verification.agrees_with_cpu
    lines: list[str] = [*verification.failures, verification.safety, verification.sentence, str(verification)]
    report: BenchReport = bench("model", quick=True)
    timing: PrecisionTiming = report.precisions[0]
    times: list[float] = [report.wall_s, verification.texts]
    told: list[str] = [report.model, timing.name, timing.weights, *report.refused.values()]
    found: list[Adapter] = [report.adapter, verification.adapter, *adapters()]
    print(passed, agrees_with_cpu, lines, times, told, found, report.raw, timing.raw, verification.raw, Verification.of, BenchReport.of)


def faults(model: SentenceTransformer) -> list[str]:
    kinds: list[type[VectileError]] = [
        errors.AdapterError,
        errors.DeviceError,
        errors.ForkError,
        errors.GpuMemoryError,
        errors.HubError,
        errors.InputTypeError,
        errors.InternalError,
        errors.ModelError,
        errors.ModelFileError,
        errors.NonFiniteError,
        errors.OptionError,
        errors.TooLongError,
        errors.UnknownArgumentError,
        errors.UnsupportedModelError,
    ]
    try:
        model.encode("a")
    except errors.VectileError as error:
        return [str(error)]
    return [kind.__name__ for kind in kinds]
