"""The real sentence-transformers and this package in one process: the same calls give the same types, shapes, dtypes and
values, and the same kinds of exceptions."""

from __future__ import annotations

import inspect
import json
import pathlib
import random
import shutil
import warnings
from typing import Any, Callable

import numpy
import pytest
from conftest import FIXTURES, MINILM, TEXTS, require

import vectile

require("torch", "sentence_transformers")
warnings.filterwarnings("ignore")
import sentence_transformers  # noqa: E402
import torch  # noqa: E402

pytestmark = pytest.mark.reference
torch.set_num_threads(2)

TOLERANCE = 2e-6
F32 = {"dtype": "float32"}

#: Models by the fixture's path: a plain one, a Dense head, prompts, a bf16 checkpoint.
DENSE = ["minilm", "bert_dense", "bert_prompts", "bert_bf16", "bert_weightedmean"]
#: The number of random calls of each dense model.
CALLS = 60


def path_of(name: str) -> str:
    return str(MINILM if name == "minilm" else FIXTURES / name)


class Both:
    """A model in both packages."""

    def __init__(self, kind: str, name: str) -> None:
        if name == "minilm" and not MINILM.is_dir():
            pytest.skip("all-MiniLM-L6-v2 is missing; scripts/quickstart.sh fetches it")
        of = lambda package: getattr(package, kind)(path_of(name), model_kwargs=dict(F32), device="cpu")
        self.theirs = of(sentence_transformers)
        self.ours = of(vectile)


_loaded: dict[tuple[str, str], Both] = {}


def both(kind: str, name: str) -> Both:
    if (kind, name) not in _loaded:
        _loaded[kind, name] = Both(kind, name)
    return _loaded[kind, name]


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # the kinds of exceptions are compared
        return error


#: The kinds of exceptions that a caller tells apart.
KINDS = (TypeError, ValueError, OSError, AttributeError)


def kind_of(error: BaseException) -> set[type]:
    return {kind for kind in KINDS if isinstance(error, kind)}


def assert_same(ours: Any, theirs: Any, what: str, tolerance: float = TOLERANCE) -> None:
    if isinstance(theirs, Exception):
        assert isinstance(ours, Exception), f"{what}: {theirs!r} is expected, and {ours!r} was returned"
        assert kind_of(ours) & kind_of(theirs) or not kind_of(theirs), f"{what}: {ours!r} instead of {theirs!r}"
        return
    assert not isinstance(ours, Exception), f"{what}: {ours!r}"
    assert type(ours) is type(theirs), f"{what}: {type(ours)} instead of {type(theirs)}"
    if isinstance(theirs, list):
        assert len(ours) == len(theirs), what
        for mine, other in zip(ours, theirs):
            assert_same(mine, other, what, tolerance)
    elif isinstance(theirs, dict):
        for key in ours:
            assert_same(ours[key], theirs[key], f"{what}, {key}", tolerance)
    elif isinstance(theirs, (torch.Tensor, numpy.ndarray, numpy.generic)):
        assert ours.shape == theirs.shape, f"{what}: {ours.shape} instead of {theirs.shape}"
        assert ours.dtype == theirs.dtype, f"{what}: {ours.dtype} instead of {theirs.dtype}"
        dense = lambda x: x.to_dense() if isinstance(x, torch.Tensor) and x.is_sparse else x
        mine, other = (numpy.asarray(dense(x)) for x in (ours, theirs))
        if mine.dtype.kind == "f" and mine.size:
            scale = max(1.0, float(numpy.abs(other).max()))
            assert float(numpy.abs(mine - other).max()) <= tolerance * scale, f"{what}: values differ"
        elif mine.dtype in (numpy.int8, numpy.uint8):
            # A value on the border of a step, or of a bit, may fall on either side.
            differ = numpy.abs(mine.astype(int) - other.astype(int))
            # The ranges of two texts come from these texts, so every value is on a border.
            most = 0.1 if mine.ndim == 2 and len(mine) > 2 else 0.5
            assert (differ > 0).mean() <= most if mine.size else True, f"{what}: too many steps differ"
            assert "binary" in what or differ.max(initial=0) <= 1, f"{what}: steps differ by more than one"
        else:
            assert (mine == other).all(), what
    else:
        assert ours == theirs, what


def random_call(random: random.Random, prompts: list[str]) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """A method, its inputs and its arguments; some of them are impossible."""
    # The last text occurs twice. The range of a column over two equal texts is noise in sentence-transformers.
    texts = random.sample(TEXTS[:-1], random.randint(1, len(TEXTS) - 1))
    forms: list[Any] = [texts, texts, tuple(texts), texts[0], numpy.array(texts), numpy.array(texts, dtype=object), []]
    choices: dict[str, list[Any]] = {
        "batch_size": [1, 2, 32, 0],
        "show_progress_bar": [False, None],
        "output_value": ["sentence_embedding"] * 6 + ["token_embeddings"],
        "precision": ["float32"] * 4 + ["int8", "uint8", "binary", "ubinary", "int4"],
        "convert_to_numpy": [True, False],
        "convert_to_tensor": [True, False],
        "normalize_embeddings": [True, False],
        "truncate_dim": [None, 8, 5, 4096],
        "prompt": ["query: ", ""],
        "prompt_name": [*prompts, *prompts, "absent"],
        "device": ["cpu"],
        "chunk_size": [None, 4],
        "color": ["red"],
    }
    rare = {"color": 0.02, "device": 0.05, "output_value": 0.3}
    picked = {name: random.choice(values) for name, values in choices.items() if random.random() < rare.get(name, 0.25)}
    method = random.choice(["encode", "encode", "encode_query", "encode_document"])
    return method, (random.choice(forms),), picked


@pytest.mark.parametrize("name", DENSE)
def test_random_calls_agree(name: str) -> None:
    pair = both("SentenceTransformer", name)
    numbers = random.Random(name)
    errors = 0
    for _ in range(CALLS):
        method, args, kwargs = random_call(numbers, list(pair.theirs.prompts))
        theirs = outcome(lambda: getattr(pair.theirs, method)(*args, **kwargs))
        ours = outcome(lambda: getattr(pair.ours, method)(*args, **kwargs))
        errors += isinstance(theirs, Exception)
        assert_same(ours, theirs, f"{name}.{method}({args!r}, {kwargs!r})")
    assert errors < CALLS // 2


@pytest.mark.parametrize("name", ["minilm", "bert_dense", "bert_prompts"])
def test_similarities_and_properties_agree(name: str) -> None:
    pair = both("SentenceTransformer", name)
    vectors = pair.theirs.encode(TEXTS)
    for function in ["cosine", "dot", "euclidean", "manhattan"]:
        pair.theirs.similarity_fn_name = pair.ours.similarity_fn_name = function
        for a, b in [(vectors, vectors), (torch.tensor(vectors), vectors[:2]), (list(vectors), vectors[0])]:
            theirs, ours = pair.theirs.similarity(a, b), pair.ours.similarity(a, b)
            assert type(ours) is type(theirs) and ours.shape == theirs.shape and ours.dtype == theirs.dtype
            # torch computes large distances through products, which loses digits near zero.
            tolerance = 2e-3 if function == "euclidean" else 1e-4 if function == "manhattan" else 5e-6
            scale = max(1.0, float(theirs.abs().max()))
            assert float((ours - theirs).abs().max()) <= tolerance * scale, function
        theirs, ours = pair.theirs.similarity_pairwise(vectors, vectors), pair.ours.similarity_pairwise(vectors, vectors)
        assert ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-4)
    pair.theirs.similarity_fn_name = pair.ours.similarity_fn_name = "cosine"
    for attribute in ["max_seq_length", "prompts", "default_prompt_name", "truncate_dim", "similarity_fn_name"]:
        assert getattr(pair.ours, attribute) == getattr(pair.theirs, attribute), attribute
    assert pair.ours.get_embedding_dimension() == pair.theirs.get_embedding_dimension()
    assert pair.ours.get_sentence_embedding_dimension() == pair.theirs.get_embedding_dimension()
    theirs = pair.theirs.tokenize(TEXTS[:3])
    ours = pair.ours.tokenize(TEXTS[:3])
    assert_same(ours, {key: theirs[key] for key in ours}, "tokenize")


@pytest.mark.parametrize("length", [5, 6, 8, 12])
def test_prompts_are_cut_at_a_lowered_length(length: int) -> None:
    # sentence-transformers keeps a prompt's length when max_seq_length changes, so that its vectors depend on earlier
    # calls. A model of its own for each length has made none.
    pair = Both("SentenceTransformer", "bert_prompts")
    pair.theirs.max_seq_length = pair.ours.max_seq_length = length
    ours, theirs = (model.encode(TEXTS, prompt_name="query") for model in (pair.ours, pair.theirs))
    assert_same(ours, theirs, f"a prompt at max_seq_length {length}")


@pytest.mark.parametrize("name", ["minilm", "bert_dense"])
def test_settable_lengths_agree(name: str) -> None:
    pair = both("SentenceTransformer", name)
    before = pair.theirs.max_seq_length
    for length in [5, 9, before]:
        pair.theirs.max_seq_length = pair.ours.max_seq_length = length
        assert_same(pair.ours.encode(TEXTS), pair.theirs.encode(TEXTS), f"max_seq_length {length}")
    with pair.ours.truncate_embeddings(6), pair.theirs.truncate_embeddings(6):
        assert_same(pair.ours.encode(TEXTS), pair.theirs.encode(TEXTS), "truncate_embeddings")


def test_a_width_in_the_configuration_agrees(tmp_path: pathlib.Path) -> None:
    path = shutil.copytree(path_of("bert_mean_norm"), tmp_path / "model")
    settings = path / "config_sentence_transformers.json"
    config = json.loads(settings.read_text()) if settings.exists() else {}
    settings.write_text(json.dumps({**config, "truncate_dim": 8}))
    for kwargs in [{}, {"truncate_dim": 12}]:
        theirs, ours = (
            package.SentenceTransformer(str(path), model_kwargs=dict(F32), device="cpu", **kwargs)
            for package in (sentence_transformers, vectile)
        )
        assert ours.truncate_dim == theirs.truncate_dim
        assert ours.get_embedding_dimension() == theirs.get_embedding_dimension()
        for width in [None, 5]:
            assert_same(ours.encode(TEXTS, truncate_dim=width), theirs.encode(TEXTS, truncate_dim=width), f"{kwargs}, {width}")
        with ours.truncate_embeddings(None), theirs.truncate_embeddings(None):
            assert_same(ours.encode(TEXTS), theirs.encode(TEXTS), f"{kwargs}, all values")


def test_search_agrees() -> None:
    from sentence_transformers import util

    pair = both("SentenceTransformer", "minilm")
    vectors = pair.theirs.encode(TEXTS[:5], convert_to_tensor=True)
    for query in [vectors[:2], vectors[0]]:
        theirs = util.semantic_search(query, vectors, top_k=3)
        ours = vectile.util.semantic_search(query, vectors, top_k=3)
        assert [[hit["corpus_id"] for hit in hits] for hits in ours] == [[hit["corpus_id"] for hit in hits] for hits in theirs]
        for mine, other in zip(sum(ours, []), sum(theirs, [])):
            assert abs(mine["score"] - other["score"]) <= TOLERANCE
    for function in ["cos_sim", "dot_score", "manhattan_sim"]:
        assert torch.allclose(getattr(vectile.util, function)(vectors, vectors), getattr(util, function)(vectors, vectors), atol=1e-5)


PAIRS = [("Where is the cat?", text) for text in TEXTS if text]


@pytest.mark.parametrize("name", ["rerankers/bert", "rerankers/bert_labels"])
def test_rerankers_agree(name: str) -> None:
    if not (FIXTURES / name).is_dir():
        pytest.skip(f"there is no fixture {name}")
    pair = both("CrossEncoder", name)
    numbers = random.Random(name)
    for _ in range(25):
        pairs = numbers.sample(PAIRS, numbers.randint(1, len(PAIRS)))
        inputs = numbers.choice([pairs, [list(each) for each in pairs], pairs[0], numpy.array(pairs), []])
        choices: dict[str, list[Any]] = {
            "batch_size": [1, 32, -1],
            "activation_fn": [torch.nn.Identity(), torch.nn.Sigmoid(), None],
            "apply_softmax": [True, False],
            "convert_to_numpy": [True, False],
            "convert_to_tensor": [True, False],
        }
        kwargs = {key: numbers.choice(values) for key, values in choices.items() if numbers.random() < 0.4}
        theirs = outcome(lambda: pair.theirs.predict(inputs, **kwargs))
        ours = outcome(lambda: pair.ours.predict(inputs, **kwargs))
        # The logits of float32 in torch are themselves up to 4.6e-6 from those of float64, as fixture.json says.
        assert_same(ours, theirs, f"predict({inputs!r}, {kwargs!r})", 1e-5)
    documents = [text for _, text in PAIRS]
    for kwargs in [{}, {"top_k": 2}, {"return_documents": True}]:
        theirs = outcome(lambda: pair.theirs.rank("Where is the cat?", documents, **kwargs))
        ours = outcome(lambda: pair.ours.rank("Where is the cat?", documents, **kwargs))
        if isinstance(theirs, Exception):
            assert_same(ours, theirs, "rank")
            continue
        assert [sorted(each) for each in ours] == [sorted(each) for each in theirs]
        assert numpy.allclose([each["score"] for each in ours], [each["score"] for each in theirs], atol=1e-5)
    assert pair.ours.num_labels == pair.theirs.num_labels


def test_sparse_encoders_agree() -> None:
    pair = both("SparseEncoder", "sparse/bert")
    numbers = random.Random(7)
    for _ in range(30):
        texts = numbers.sample(TEXTS, numbers.randint(1, len(TEXTS)))
        inputs = numbers.choice([texts, tuple(texts), texts[0]])
        choices: dict[str, list[Any]] = {
            "convert_to_tensor": [True, False],
            "convert_to_sparse_tensor": [True, False],
            "save_to_cpu": [True],
            "batch_size": [2, 0],
            "color": ["red"],
        }
        kwargs = {key: numbers.choice(values) for key, values in choices.items() if numbers.random() < 0.3}
        method = numbers.choice(["encode", "encode_query", "encode_document"])
        theirs = outcome(lambda: getattr(pair.theirs, method)(inputs, **kwargs))
        ours = outcome(lambda: getattr(pair.ours, method)(inputs, **kwargs))
        assert_same(ours, theirs, f"{method}({inputs!r}, {kwargs!r})", 1e-5)
    ours, theirs = pair.ours.encode(TEXTS, max_active_dims=5), pair.theirs.encode(TEXTS, max_active_dims=5)
    assert_same(ours, theirs, "max_active_dims", 1e-5)
    assert torch.allclose(pair.ours.similarity(ours, ours), pair.theirs.similarity(theirs, theirs), atol=1e-4)
    mine, other = pair.ours.decode(ours[0]), pair.theirs.decode(theirs[0])
    assert [token for token, _ in mine] == [token for token, _ in other]


def test_multi_vector_encoders_agree() -> None:
    pair = both("MultiVectorEncoder", "multi_vector/bert")
    texts = [text for text in TEXTS if text]
    for method in ["encode_query", "encode_document"]:
        for kwargs in [{}, {"convert_to_numpy": True}, {"normalize_embeddings": True}, {"batch_size": 0}, {"convert_to_tensor": True}]:
            for inputs in [texts, texts[0]]:
                theirs = outcome(lambda: getattr(pair.theirs, method)(inputs, **kwargs))
                ours = outcome(lambda: getattr(pair.ours, method)(inputs, **kwargs))
                assert_same(ours, theirs, f"{method}({inputs!r}, {kwargs!r})")
    queries, documents = pair.theirs.encode_query(texts[:2]), pair.theirs.encode_document(texts)
    assert pair.ours.similarity_fn_name == pair.theirs.similarity_fn_name
    assert torch.allclose(pair.ours.similarity(queries, documents), pair.theirs.similarity(queries, documents), atol=1e-4)
    pairwise = [model.similarity_pairwise(queries, documents[:2]) for model in (pair.ours, pair.theirs)]
    assert torch.allclose(*pairwise, atol=1e-4)


WRONG: list[tuple[str, Callable[[Any], Any]]] = [
    ("None as input", lambda m: m.encode(None)),
    ("a number as input", lambda m: m.encode(5)),
    ("a number in a list", lambda m: m.encode(["a", 5])),
    ("None in a list", lambda m: m.encode([None])),
    ("batch_size 0", lambda m: m.encode("a", batch_size=0)),
    ("batch_size -3", lambda m: m.encode("a", batch_size=-3)),
    ("batch_size of a string", lambda m: m.encode("a", batch_size="many")),
    ("an unknown precision", lambda m: m.encode("a", precision="int4")),
    ("int8 of one text", lambda m: m.encode("a", precision="int8")),
    ("uint8 of one text", lambda m: m.encode(["a"], precision="uint8")),
    ("an unknown prompt", lambda m: m.encode("a", prompt_name="absent")),
    ("an unknown prompt of a query", lambda m: m.encode_query("a", prompt_name="absent")),
    ("an unknown prompt of a document", lambda m: m.encode_document("a", prompt_name="absent")),
    ("an unknown argument", lambda m: m.encode("a", color="red")),
    ("an unknown argument of a query", lambda m: m.encode_query("a", color="red")),
    ("an unknown argument of a document", lambda m: m.encode_document("a", color="red")),
    ("a prompt that is a number", lambda m: m.encode("a", prompt=5)),
    ("truncate_dim of a string", lambda m: m.encode("a", truncate_dim="few")),
    ("an unknown similarity", lambda m: setattr(m, "similarity_fn_name", "maxsim")),
    ("a similarity of a number", lambda m: setattr(m, "similarity_fn_name", 5)),
    ("similarity of widths", lambda m: m.similarity(numpy.ones((2, 3), "f4"), numpy.ones((2, 4), "f4"))),
    ("pairwise widths", lambda m: m.similarity_pairwise(numpy.ones((2, 3), "f4"), numpy.ones((2, 4), "f4"))),
    ("pairwise counts", lambda m: m.similarity_pairwise(numpy.ones((2, 3), "f4"), numpy.ones((3, 3), "f4"))),
    ("no inputs", lambda m: m.encode()),
]

WRONG_LOADS: list[tuple[str, Callable[[Any], Any]]] = [
    ("a missing path", lambda p: p.SentenceTransformer("/no/such/model")),
    ("a missing relative path", lambda p: p.SentenceTransformer("./no/such/model")),
    ("a file", lambda p: p.SentenceTransformer(str(FIXTURES / "tokenizer.json"))),
    ("an unknown argument", lambda p: p.SentenceTransformer(path_of("bert_mean_norm"), color="red")),
    ("two positional arguments", lambda p: p.SentenceTransformer(path_of("bert_mean_norm"), "cpu")),
    ("an unknown default prompt", lambda p: p.SentenceTransformer(path_of("bert_mean_norm"), default_prompt_name="absent")),
    ("an unknown similarity", lambda p: p.SentenceTransformer(path_of("bert_mean_norm"), similarity_fn_name="maxsim")),
    ("an unknown dtype", lambda p: p.SentenceTransformer(path_of("bert_mean_norm"), model_kwargs={"dtype": "float7"})),
    ("an unknown backend", lambda p: p.SentenceTransformer(path_of("bert_mean_norm"), backend="abacus")),
    ("a reranker of a missing path", lambda p: p.CrossEncoder("/no/such/model")),
    ("a sparse encoder of a missing path", lambda p: p.SparseEncoder("/no/such/model")),
    ("a multi-vector encoder of a missing path", lambda p: p.MultiVectorEncoder("/no/such/model")),
    ("rank without documents' list", lambda p: p.CrossEncoder(path_of("rerankers/bert")).rank("a", 5)),
    ("a pair of a number", lambda p: p.CrossEncoder(path_of("rerankers/bert")).predict([("a", 5)])),
    ("batch_size 0 of a reranker", lambda p: p.CrossEncoder(path_of("rerankers/bert")).predict([("a", "b")], batch_size=0)),
    ("an unknown sparse argument", lambda p: p.SparseEncoder(path_of("sparse/bert")).encode("a", color="red")),
    ("max_active_dims 0", lambda p: p.SparseEncoder(path_of("sparse/bert")).encode("a", max_active_dims=0)),
]


@pytest.mark.parametrize("name", ["SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder"])
def test_every_argument_is_taken(name: str) -> None:
    def arguments(package: Any, method: str) -> set[str]:
        """The arguments of a method in the class and its bases, which may pass `kwargs` on to each other."""
        found: set[str] = set()
        for base in getattr(package, name).__mro__:
            if method in vars(base):
                found |= set(inspect.signature(inspect.unwrap(vars(base)[method])).parameters)
        return found

    for method in ["__init__", "encode", "predict", "rank", "decode", "tokenize"]:
        if hasattr(getattr(vectile, name), method):
            missing = arguments(sentence_transformers, method) - arguments(vectile, method)
            assert not missing, f"{name}.{method} does not take {sorted(missing)}"


@pytest.mark.parametrize("what, call", WRONG, ids=[what for what, _ in WRONG])
def test_wrong_calls_raise_the_same_kinds(what: str, call: Callable[[Any], Any]) -> None:
    pair = both("SentenceTransformer", "bert_prompts")
    theirs, ours = outcome(lambda: call(pair.theirs)), outcome(lambda: call(pair.ours))
    assert isinstance(theirs, Exception), f"{what}: sentence-transformers returns {theirs!r}"
    assert_same(ours, theirs, what)


@pytest.mark.parametrize("what, call", WRONG_LOADS, ids=[what for what, _ in WRONG_LOADS])
def test_wrong_loads_raise_the_same_kinds(what: str, call: Callable[[Any], Any]) -> None:
    theirs, ours = outcome(lambda: call(sentence_transformers)), outcome(lambda: call(vectile))
    assert isinstance(theirs, Exception), f"{what}: sentence-transformers returns {theirs!r}"
    assert_same(ours, theirs, what)


def test_their_evaluators_take_our_model() -> None:
    from sentence_transformers.sentence_transformer.evaluation import (
        EmbeddingSimilarityEvaluator,
        InformationRetrievalEvaluator,
    )

    pair = both("SentenceTransformer", "minilm")
    similar = EmbeddingSimilarityEvaluator(TEXTS[:4], TEXTS[3:], [0.1, 0.9, 0.4, 0.6], write_csv=False)
    found = InformationRetrievalEvaluator(
        {"q": "Where is the cat?"}, {"a": TEXTS[0], "b": TEXTS[1]}, {"q": {"a"}}, write_csv=False
    )
    for evaluator in [similar, found]:
        ours, theirs = evaluator(pair.ours), evaluator(pair.theirs)
        assert sorted(ours) == sorted(theirs)
        for key in theirs:
            assert abs(ours[key] - theirs[key]) < 1e-6, key
