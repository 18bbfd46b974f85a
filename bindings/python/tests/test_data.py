"""Data in and out without copies: numpy, Arrow, devices, dtypes, reports."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy
import pytest
from conftest import FIXTURES, TEXTS, require

import vectile
from vectile import SentenceTransformer, errors

BF16 = str(FIXTURES / "bert_bf16")


def test_rows_are_the_librarys_own_memory(tiny: SentenceTransformer) -> None:
    rows = tiny.encode(TEXTS)
    assert rows.base is not None and not rows.flags.owndata and rows.flags.writeable and rows.flags.c_contiguous
    before = rows.copy()
    del tiny
    assert (rows == before).all()


def test_half_rows_are_half_rows(tiny: SentenceTransformer) -> None:
    half = tiny.encode(TEXTS, precision="float16")
    assert half.dtype == numpy.float16
    assert (half == tiny.encode(TEXTS).astype(numpy.float16)).all()


def test_the_same_rows_in_any_batch(tiny: SentenceTransformer) -> None:
    rows = tiny.encode(TEXTS)
    assert all((tiny.encode(text) == row).all() for text, row in zip(TEXTS, rows))


def test_arrow_of_pyarrow_goes_in_and_out(tiny: SentenceTransformer) -> None:
    require("pyarrow")
    import pyarrow

    rows = tiny.encode(TEXTS)
    kinds: list[Any] = [
        pyarrow.array(TEXTS),
        pyarrow.array(TEXTS, pyarrow.large_string()),
        pyarrow.array(TEXTS, pyarrow.string_view()),
        pyarrow.chunked_array([TEXTS[:2], [], TEXTS[2:]]),
        pyarrow.table({"text": TEXTS}),
        pyarrow.record_batch({"text": TEXTS}),
        pyarrow.array(["x", *TEXTS])[1:],
    ]
    for column in kinds:
        assert (tiny.encode(column) == rows).all(), column.type if hasattr(column, "type") else column
    result = tiny.encode_arrow(pyarrow.array(TEXTS))
    array = pyarrow.array(result)
    assert array.type == pyarrow.list_(pyarrow.field("item", pyarrow.float32(), nullable=False), rows.shape[1])
    assert (array.flatten().to_numpy().reshape(rows.shape) == rows).all()
    address = result.__array_interface__["data"][0]
    assert array.flatten().buffers()[1].address == address
    half = pyarrow.array(tiny.encode_arrow(TEXTS, precision="float16"))
    assert half.type.value_type == pyarrow.float16()
    array.validate(full=True)


def test_nulls_of_arrow_are_errors_or_nulls(tiny: SentenceTransformer) -> None:
    require("pyarrow")
    import pyarrow

    column = pyarrow.array(["a cat", None, "the dog"])
    with pytest.raises(ValueError, match="input 1 is null"):
        tiny.encode(column)
    with pytest.raises(ValueError, match="input 1 is null"):
        tiny.encode_arrow(column)
    array = pyarrow.array(tiny.encode_arrow(column, on_error="null"))
    assert array.is_null().to_pylist() == [False, True, False]
    rows = tiny.encode(["a cat", "the dog"])
    assert (numpy.array(array[2].as_py(), "f4") == rows[1]).all()
    nulls = pyarrow.nulls(2)
    array_of_nulls = pyarrow.array(tiny.encode_arrow(nulls, on_error="null"))
    assert array_of_nulls.is_null().to_pylist() == [True, True] and array_of_nulls.type == array.type
    with pytest.raises(ValueError, match="input 0 is null"):
        tiny.encode_arrow(nulls)
    with pytest.raises(TypeError, match="Int64"):
        tiny.encode(pyarrow.array([1, 2]))
    with pytest.raises(ValueError, match="a, b"):
        tiny.encode(pyarrow.table({"a": ["x"], "b": ["y"]}))
    assert tiny.encode(pyarrow.array([], pyarrow.string())).shape == (0,)


@pytest.mark.parametrize("package", ["polars", "pandas", "duckdb"])
def test_arrow_of_other_libraries_goes_in_and_out(tiny: SentenceTransformer, package: str) -> None:
    require(package)
    rows = tiny.encode(TEXTS)
    if package == "polars":
        import polars

        series = polars.Series("text", TEXTS)
        back = polars.Series(tiny.encode_arrow(series))
        assert (tiny.encode(series) == rows).all() and (back.to_numpy() == rows).all()
    elif package == "pandas":
        import pandas

        assert (tiny.encode(pandas.Series(TEXTS)) == rows).all()
        assert (tiny.encode(pandas.DataFrame({"text": TEXTS})) == rows).all()
    else:
        import duckdb

        relation = duckdb.sql("select 'a cat' as text union all select 'the dog' order by text")
        assert (tiny.encode(relation) == tiny.encode(["a cat", "the dog"])).all()


def test_auto_keeps_bf16_and_says_so() -> None:
    model = SentenceTransformer(BF16, model_kwargs={"torch_dtype": "auto"})
    assert model.precision.requested == "auto" and model.precision.checkpoint == "bfloat16"
    assert model.precision.weights == "packed_bf16" and "bfloat16" in str(model.precision)
    wide = SentenceTransformer(BF16, model_kwargs={"dtype": "float32"})
    assert wide.precision.weights == "f32" and wide.precision.weight_bytes > model.precision.weight_bytes
    packed = SentenceTransformer(BF16, model_kwargs={"dtype": "float16"}, half_fallback="packed", disable=["shader-f16"])
    # The CPU reads f16 weights as they are.
    expected = "f16" if packed.adapter.is_cpu else "packed_f16"
    assert packed.precision.weights == expected and packed.precision.reasons


def test_devices_have_words() -> None:
    first = vectile.adapters()[0]
    path = str(FIXTURES / "bert_mean_norm")
    for device in [None, 0, "0", first.name.split()[0].lower()]:
        assert SentenceTransformer(path, device=device).adapter.index == 0
    found = vectile.adapters()
    if not any("nvidia" in f"{each.name} {each.driver}".lower() for each in found):
        with pytest.raises(errors.AdapterError) as caught:
            SentenceTransformer(path, device="cuda")
        assert "NVIDIA" in str(caught.value) and found[0].name in str(caught.value)
    if not any(each.backend == "Metal" for each in found):
        with pytest.raises(errors.AdapterError, match="Metal"):
            SentenceTransformer(path, device="mps")
    with pytest.raises(errors.AdapterError, match=first.name.split()[0]):
        SentenceTransformer(path, device="no such adapter")
    with pytest.raises(errors.AdapterError, match="999"):
        SentenceTransformer(path, device=999)


def test_the_cpu_is_kept_if_a_call_names_it() -> None:
    model = SentenceTransformer(str(FIXTURES / "bert_mean_norm"), device="cpu")
    assert model.adapter.is_cpu
    loaded = model._model
    assert (model.encode("a cat", device="cpu") == model.encode("a cat")).all()
    assert model._model is loaded


def test_the_cpu_needs_no_driver() -> None:
    if not pathlib.Path("/proc/self/maps").exists():
        pytest.skip("there is no /proc")
    code = f"""
import vectile
model = vectile.SentenceTransformer({str(FIXTURES / "bert_mean_norm")!r}, device="cpu")
model.encode("a cat")
maps = lambda: {{name for name in ("libvulkan", "libLLVM") if name in open("/proc/self/maps").read()}}
assert not maps(), maps()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_actors_of_a_machine_take_different_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = "import sys; from vectile.ray import _own_device; print(_own_device([3, 'name']), flush=True); sys.stdin.read()"

    def actor() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def device(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    first, second = actor(), None
    try:
        assert device(first) == "3"
        second = actor()
        assert device(second) == "name"
        # A killed actor gives its adapter back.
        first.kill()
        first.wait()
        first = actor()
        assert device(first) == "3"
        third = actor()
        assert device(third) in ("3", "name")
        third.kill()
    finally:
        first.kill()
        if second:
            second.kill()


def test_texts_are_split_among_devices(tiny: SentenceTransformer) -> None:
    rows = tiny.encode(TEXTS)
    for chunk_size in [None, 2]:
        assert (tiny.encode(TEXTS, device=[0, 0], chunk_size=chunk_size) == rows).all()
    assert (tiny.encode(TEXTS, device=[0, 0], precision="int8") == tiny.encode(TEXTS, precision="int8")).all()
    pool = tiny.start_multi_process_pool([0, 0])
    assert (tiny.encode(TEXTS, pool=pool) == rows).all()
    tiny.stop_multi_process_pool(pool)


def test_inspection_describes_the_model(tiny: SentenceTransformer) -> None:
    described = tiny.inspect()
    assert described.dimension == tiny.get_embedding_dimension() and "Pooling" in described.modules
    assert described.adapter == vectile.adapters()[0] and described.raw["tensors"]
    assert len(tiny.fingerprint()) == 64 and repr(tiny).startswith("SentenceTransformer(")
    with pytest.raises(TypeError, match="pickled"):
        import pickle

        pickle.dumps(tiny)


def test_verify_and_bench_return_reports(tmp_path: pathlib.Path) -> None:
    path = str(FIXTURES / "bert_mean_norm")
    verification = vectile.verify(path, texts=["a cat", "the dog"], cache_dir=str(tmp_path))
    assert verification.passed and not verification.failures and "PASSED" in str(verification)
    assert verification.agrees_with_cpu is (None if verification.adapter.is_cpu else True)
    report = vectile.bench(path, precisions=["packed_bf16"], texts=["a cat", "the dog"], quick=True, rounds=1)
    assert [each.name for each in report.precisions][:2] == ["f32", "packed_bf16"], report.refused
    json.dumps(report.raw)


def test_the_progress_bar_counts_texts(tiny: SentenceTransformer, capsys: pytest.CaptureFixture[str]) -> None:
    require("tqdm")
    tiny.encode(TEXTS, show_progress_bar=True)
    assert f"{len(TEXTS)}/{len(TEXTS)}" in capsys.readouterr().err
    tiny.encode(TEXTS, show_progress_bar=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("function", ["cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"])
def test_a_search_on_the_adapter_finds_the_same_rows(tiny: SentenceTransformer, function: str) -> None:
    rows = numpy.random.default_rng(1).standard_normal((1000, 48)).astype(numpy.float32)
    score = getattr(vectile.util, function)
    host, adapter = (
        vectile.util.semantic_search(rows[:3], rows, top_k=7, score_function=score, model=model) for model in (None, tiny)
    )
    for ours, theirs in zip(adapter, host):
        assert [hit["corpus_id"] for hit in ours] == [hit["corpus_id"] for hit in theirs]
        assert numpy.allclose([hit["score"] for hit in ours], [hit["score"] for hit in theirs], rtol=1e-5, atol=1e-5)


def test_a_search_on_the_adapter_refuses_wrong_rows(tiny: SentenceTransformer) -> None:
    rows = numpy.ones((4, 3), numpy.float32)
    search = vectile.util.semantic_search
    assert search(rows[:0], rows, model=tiny) == [] and search(rows[:1], rows[:0], model=tiny) == [[]]
    with pytest.raises(ValueError, match="3 and 2 values"):
        search(rows, rows[:, :2], model=tiny)
    rows[2, 1] = numpy.nan
    with pytest.raises(ValueError, match="row 2 holds NaN"):
        search(rows[:1], rows, model=tiny)
    reranker: Any = vectile.CrossEncoder(str(FIXTURES / "rerankers" / "bert"))
    with pytest.raises(TypeError, match="SentenceTransformer"):
        search(rows[:1], rows[:1], model=reranker)


def test_wrong_texts_have_a_place(tiny: SentenceTransformer) -> None:
    with pytest.raises(TypeError, match="input 1 is of type int"):
        tiny.encode(["a", 5])
    with pytest.raises(ValueError, match="input 0 holds a lone surrogate"):
        tiny.encode(["\ud800"])
    with pytest.raises(errors.UnknownArgumentError, match="color"):
        tiny.encode("a", color="red")


def test_the_import_is_quick() -> None:
    code = "import sys, time; t = time.process_time(); import vectile; print(time.process_time() - t); assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    times = [float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout) for _ in range(3)]
    # Processor time, because the tests share the machine with others. The import waits for nothing but the file system.
    assert min(times) < 0.15, times
