"""Writes the first inputs of the fuzz targets to fuzz/corpus. The inputs that libFuzzer finds are added beside them.

The files for Parquet and Arrow need pyarrow. fuzz/targets has the meaning of the first bytes of an input.
"""

import gzip
import io
import json
import random
import struct
import subprocess
from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz" / "corpus"
BASES = ROOT / "fuzz" / "bases"
FIXTURES = ROOT / "tests" / "fixtures"


def write(target: str, name: str, content: bytes) -> None:
    directory = CORPUS / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"seed-{name}").write_bytes(content)


def noise(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def safetensors(header: object, values: int, pad: str = "", size: int | None = None) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode() + pad.encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + bytes(values)


def tensor(dtype: str, shape: list, begin: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def weights() -> None:
    """The table of crafted files that every reader of safetensors should be tried with."""
    word = "embeddings.word_embeddings.weight"
    one = {word: tensor("F32", [2, 2], 0, 16)}
    nested = '{"a":' + "[" * 200 + "]" * 200 + "}"
    files = {
        "valid": safetensors(one, 16),
        "two": safetensors({word: tensor("F16", [2, 2], 0, 8), "b": tensor("BF16", [3], 8, 14)}, 14),
        "empty": b"",
        "seven-bytes": bytes(7),
        "no-header": struct.pack("<Q", 0),
        "huge-header": struct.pack("<Q", 2**64 - 1) + b"{}",
        "past-the-end": safetensors(one, 16, size=10_000),
        "truncated": safetensors(one, 15),
        "trailing": safetensors(one, 17),
        "overlap": safetensors({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 2, 6)}, 6),
        "hole": safetensors({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 6, 10)}, 10),
        "backwards": safetensors({"a": tensor("U8", [4], 4, 0)}, 4),
        "negative": safetensors({"a": tensor("U8", [4], -4, 0)}, 4),
        "overflow": safetensors({"a": tensor("F32", [2**63, 2], 0, 4)}, 4),
        "float-shape": safetensors({"a": tensor("F32", [1.0], 0, 4)}, 4),
        "unknown-dtype": safetensors({"a": tensor("F7", [1], 0, 4)}, 4),
        "metadata": safetensors({"__metadata__": {"format": "pt"}, **one}, 16),
        "metadata-of-numbers": safetensors({"__metadata__": {"format": 1}, **one}, 16),
        "not-utf8": safetensors("{\"\udcff\":1}".encode("utf-8", "surrogateescape").decode("latin-1"), 0),
        "byte-order-mark": safetensors("\ufeff" + json.dumps(one), 16),
        "nested": safetensors(nested, 0),
        "twice": safetensors('{"a":' + json.dumps(tensor("U8", [1], 0, 1)) + ',"a":' + json.dumps(tensor("U8", [1], 0, 1)) + "}", 1),
        "no-values": safetensors({"a": tensor("F32", [0, 4], 0, 0), **one}, 16),
        "spaces": safetensors("   " + json.dumps(one), 16, pad="   "),
        "rank": safetensors({"a": tensor("U8", [1] * 5, 0, 1)}, 1),
        "sub-byte": safetensors({"a": tensor("F4", [2], 0, 1)}, 1),
        "odd-sub-byte": safetensors({"a": tensor("F4", [3], 0, 1)}, 1),
        "path-as-name": safetensors({"../../x\0y": tensor("U8", [1], 0, 1)}, 1),
        "legacy-names": safetensors({"a.LayerNorm.gamma": tensor("F32", [1], 0, 4), "a.LayerNorm.weight": tensor("F32", [1], 4, 8)}, 8),
        "integers": safetensors({"embeddings": tensor("I8", [2, 2], 0, 4), "i": tensor("I64", [1], 4, 12)}, 12),
        "infinite": safetensors({"a": tensor("F64", [1], 0, 8)}, 0) + struct.pack("<d", float("inf")),
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "html": b"<!DOCTYPE html><html>",
    }
    for name, content in files.items():
        write("weights", name, b"\0" + content)
    for seed in range(40):
        write("weights", f"header-{seed}", b"\1" + noise(seed, 60))


def index() -> None:
    valid = {"metadata": {"total_size": 3}, "weight_map": {"t0": "a.safetensors", "t1": "a.safetensors", "t2": "b.safetensors"}}
    changes = {
        "valid": valid,
        "empty": {},
        "empty-map": {"weight_map": {}},
        "outside": {"weight_map": {**valid["weight_map"], "t0": "../a.safetensors"}},
        "absolute": {"weight_map": {"t0": "/etc/passwd"}},
        "backslash": {"weight_map": {"t0": "x\\a.safetensors"}},
        "not-safetensors": {"weight_map": {"t0": "a.bin"}},
        "missing-shard": {"weight_map": {**valid["weight_map"], "t3": "c.safetensors"}},
        "other-shard": {"weight_map": {**valid["weight_map"], "t0": "b.safetensors"}},
        "unlisted": {"weight_map": {"t0": "a.safetensors", "t2": "b.safetensors"}},
        "number": {"weight_map": {"t0": 1}},
        "list": {"weight_map": ["a.safetensors"]},
    }
    for name, value in changes.items():
        write("index", name, b"\0" + json.dumps(value).encode())
    for seed in range(30):
        write("index", f"shards-{seed}", b"\1" + noise(seed, 40))


def config() -> None:
    for base in range(100):
        write("config", f"base-{base}", bytes([base, 255, 2]) + noise(base, 24))
    for kind in range(4):
        for base in range(0, 100, 9):
            write("config", f"kind-{kind}-{base}", bytes([base, kind, 2]) + noise(1000 + base, 24))
    for base, name in enumerate(["bert_bare", "bert_mean_norm"]):
        for mode, file in enumerate(["config.json", "modules.json"]):
            path = FIXTURES / name / file
            if path.exists():
                write("config", f"raw-{name}-{file}", bytes([base, 255, mode]) + path.read_bytes())


def tokenizer() -> None:
    for at, path in enumerate(sorted(BASES.glob("*.json"))):
        value = json.loads(path.read_text())
        write("tokenizer", path.stem, b"\0\0" + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
        for seed in range(12):
            write("tokenizer", f"{path.stem}-{seed}", bytes([1, at]) + noise(100 * at + seed, 50))
    # Files on which the tokenizers crate panics or loops, as in tests/bad_input/tokenizer.rs.
    piece = json.loads((BASES / "word_piece.json").read_text())
    bpe = json.loads((BASES / "bpe.json").read_text())
    faults = {
        "merge-of-long-words": {**bpe, "model": {**bpe["model"], "merges": [["a" * 40, "b"]]}},
        "charsmap": {**piece, "normalizer": {"type": "Precompiled", "precompiled_charsmap": "ABCDEFGH"}},
        "fixed-length-0": {**piece, "pre_tokenizer": {"type": "FixedLength", "length": 0}},
        "template": {**piece, "post_processor": {**piece["post_processor"], "special_tokens": {}}},
        "stride": {**piece, "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 8}},
        "regex": {**piece, "normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}},
        "largest-id": {**piece, "model": {**piece["model"], "vocab": {**piece["model"]["vocab"], "z": 4294967295}}},
        "padding": {**piece, "padding": {**piece["padding"], "strategy": {"Fixed": 20000000}}},
        "growth": {**piece, "normalizer": {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"}] * 8}},
    }
    for name, value in faults.items():
        write("tokenizer", name, b"\0\0" + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def wgsl() -> None:
    for kernel in range(18):
        for seed in range(4):
            write("wgsl", f"kernel-{kernel}-{seed}", bytes([kernel, seed % 2]) + noise(kernel * 10 + seed, 24))


def http() -> None:
    bodies = [
        b'{"input": "a"}', b'{"input": ["a", ""], "dimensions": 0}', b'{"input": [1, "a"]}', b"[]", b"", b"{",
        b'{"input": "\\ud800"}', b'{"inputs": "\xff"}', b'{"input": null}', b"[" * 200, b'{"input": {}, "input": "a"}',
    ]
    for at, body in enumerate(bodies):
        write("http", f"body-{at}", bytes([0, 0, at % 2]) + body)
        write("http", f"embed-{at}", bytes([8, 0, at % 2]) + body)
    for route in range(23):
        for seed in range(3):
            write("http", f"route-{route}-{seed}", bytes([route, 1, seed % 2]) + noise(route * 10 + seed, 30))


def zstd(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=content, stdout=subprocess.PIPE, check=True).stdout


def columnar(table: pyarrow.Table) -> dict[str, bytes]:
    parquet, plain, file, stream = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    pyarrow.parquet.write_table(table, parquet, compression="zstd")
    pyarrow.parquet.write_table(table, plain, compression="none", use_dictionary=False, data_page_version="2.0")
    pyarrow.feather.write_feather(table, file, compression="lz4")
    with pyarrow.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return {"parquet": parquet.getvalue(), "plain-parquet": plain.getvalue(), "feather": file.getvalue(), "arrows": stream.getvalue()}


def input_files() -> None:
    lines = '{"text":"a b","id":1,"a":{"x":[1]}}\n{"text":"\\ud83d","id":NaN}\n\n{"id":2}\n{"text":"c","text":"d","a":-Infinity}\n'.encode()
    array = b'[{"text":"a","id":1},\n {"text":"b","a":[1,"]"]}]\n[{"text":"c"}]'
    csv = b'id,text,a\n1,"x, ""y""",2\n2,\xff,3\n3,z\n'
    semicolons = b'sep=;\nid;text\n1;\'a;b\'\n2;"c\n'
    tsv = b"id\ttext\ta\n1\tx\t\"q\n2\t\ty\n"
    numbers = struct.pack("<8f", *range(8))
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }\n"
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + numbers
    huge = header.replace(b"(2, 4)", b"(18446744073709551615, 4)")
    files = {
        0: [b"a\nb\r\n\xff\n", b"\xef\xbb\xbfa\n\n", b""],
        1: [lines, b"[1]\n", b'{"text":"a"}'],
        2: [array, b'{"text":"a"}{"text":"b"} [', b"[1,null,{}]"],
        3: [csv, semicolons, b"text\na\n", b'text,b\n"open'],
        4: [tsv],
        7: [npy, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(huge)) + huge, b"\x93NUMPY\x02\x00\xff\xff\xff\xff"],
        8: [gzip.compress(b"a\nb\n", mtime=0) * 2, gzip.compress(b"a\n" * 3000, mtime=0)],
        9: [zstd(lines), zstd(b'{"text":"a"}\n' * 500), zstd(lines)[:-3]],
        10: [gzip.compress(csv, mtime=0)],
        11: [zstd(array)],
        12: [zstd(tsv)],
        14: [npy],
    }
    for name, contents in files.items():
        for at, content in enumerate(contents):
            for options in (0, 2, 4):
                write("input", f"{name}-{at}-{options}", bytes([name, options, at]) + content)
    texts = pyarrow.array(["a", None, "c"])
    tables = {
        "plain": pyarrow.table({"text": texts, "id": [1, 2, 3]}),
        "keyed": pyarrow.table({"text": texts.dictionary_encode(), "a": pyarrow.array([[1.0], None, []])}),
        "binary": pyarrow.table({"text": pyarrow.array([b"a", b"\xff", b""]), "id": pyarrow.array([{"x": 1}, None, {"x": 2}])}),
        "view": pyarrow.table({"text": pyarrow.array(["a", "b" * 20], pyarrow.string_view()), "b": ["x", "y"]}),
        "empty": pyarrow.table({"text": pyarrow.array([], pyarrow.large_string())}),
    }
    names = {"parquet": 5, "plain-parquet": 5, "feather": 13, "arrows": 6}
    for table, value in tables.items():
        for kind, content in columnar(value).items():
            write("input", f"{kind}-{table}", bytes([names[kind], 0, 0]) + content)


if __name__ == "__main__":
    for make in (weights, index, config, tokenizer, wgsl, http, input_files):
        make()
