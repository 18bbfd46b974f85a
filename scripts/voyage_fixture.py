"""Writes the reference of tests/fixtures/families/qwen3_voyage with NumPy in float64.

voyage-4-nano is a Qwen3 with bidirectional attention and a projection, `linear.weight`, of each hidden state. No
released version of transformers computes this model without the model's own code. The script therefore first compares
its arithmetic with the fixture `qwen3`, whose hidden states come from transformers: they agree to 1e-6 of the largest
value. The fixture `qwen3_voyage` has the weights, texts and token ids of `qwen3`, mean pooling, and a random projection.

    python scripts/voyage_fixture.py
"""

import json
import struct
from pathlib import Path

import numpy as np

FAMILIES = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "families"
PLAIN, VOYAGE = FAMILIES / "qwen3", FAMILIES / "qwen3_voyage"
DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}


def read(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        raw = data[8 + size + start : 8 + size + end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").astype("f8")
        else:
            values = np.frombuffer(raw, DTYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def write(path, tensors):
    header, blobs, end = {}, [], 0
    for name, values in sorted(tensors.items()):
        dtype = {"f": "F64", "i": "I64"}[values.dtype.kind]
        blob = np.ascontiguousarray(values, DTYPES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": [end, end + len(blob)]}
        blobs.append(blob)
        end += len(blob)
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"".join(blobs))


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def hidden_states(config, weights, ids, causal):
    """Returns the hidden states after the final norm, `[tokens, hidden]`, in the dtype of the weights."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size, eps, tokens = config["head_dim"], config["rms_norm_eps"], len(ids)
    x = weights["embed_tokens.weight"][ids]
    # transformers computes the angles in float32.
    theta = np.float32(config["rope_parameters"]["rope_theta"])
    frequencies = np.float32(1) / theta ** (np.arange(0, size, 2, dtype="f4") / np.float32(size))
    angles = np.outer(np.arange(tokens, dtype="f4"), frequencies)
    angles = np.concatenate([angles, angles], -1)[:, None]
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)

    def rotated(v):
        return v * cos + np.concatenate([-v[..., size // 2 :], v[..., : size // 2]], -1) * sin

    for layer in range(config["num_hidden_layers"]):
        get = lambda name: weights[f"layers.{layer}.{name}.weight"]
        linear = lambda x, name: x @ get(name).T
        normed = rms_norm(x, get("input_layernorm"), eps)
        q, k, v = (linear(normed, f"self_attn.{p}_proj").reshape(tokens, -1, size) for p in "qkv")
        q = rotated(rms_norm(q, get("self_attn.q_norm"), eps))
        k = rotated(rms_norm(k, get("self_attn.k_norm"), eps))
        k, v = (np.repeat(part, heads // kv_heads, 1) for part in (k, v))
        scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(size).astype(x.dtype)
        if causal:
            scores = np.where(np.tril(np.ones((tokens, tokens), bool)), scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        context = np.einsum("hts,shd->thd", scores, v).reshape(tokens, -1)
        x = x + linear(context, "self_attn.o_proj")
        normed = rms_norm(x, get("post_attention_layernorm"), eps)
        gate = linear(normed, "mlp.gate_proj")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(normed, "mlp.up_proj"), "mlp.down_proj")
    return rms_norm(x, weights["norm.weight"], eps)


def texts_of(reference, suffix):
    ids, offsets = reference[f"input_ids{suffix}"], reference[f"offsets{suffix}"]
    return [ids[start:end] for start, end in zip(offsets, offsets[1:])]


def main():
    config = json.loads((VOYAGE / "config.json").read_text())
    plain = read(PLAIN / "reference.safetensors")
    stored = read(PLAIN / "model.safetensors")
    for text in (0, 5, 10):
        ids, expected = texts_of(plain, "")[text], plain[f"hidden.{text}"]
        off = np.abs(hidden_states(config, stored, ids, True) - expected).max() / np.abs(expected).max()
        assert off < 1e-6, f"text {text} differs from transformers by {off}"

    stored = {k.removeprefix("model."): v for k, v in read(VOYAGE / "model.safetensors").items()}
    rounded = lambda dtype: {name: values.astype(dtype) for name, values in stored.items()}

    def embeddings(weights, suffix=""):
        rows = []
        for ids in texts_of(plain, suffix):
            pooled = projected(weights, ids).mean(0)
            rows.append(pooled / np.linalg.norm(pooled))
        return np.array(rows)

    def projected(weights, ids):
        return hidden_states(config, weights, ids, False) @ weights["linear.weight"].T

    halves = {name: values.astype("f8") for name, values in rounded("f2").items()}
    reference = {name: plain[name] for name in plain if name.startswith(("input_ids", "offsets", "full_lengths"))}
    reference |= {
        "embeddings": embeddings(stored),
        "embeddings.query": embeddings(stored, ".query"),
        "embeddings.bfloat16": embeddings(stored),
        "embeddings.float16": embeddings(halves),
    }
    for text in (0, 5, 10):
        reference[f"hidden.{text}"] = projected(stored, texts_of(plain, "")[text])
    write(VOYAGE / "reference.safetensors", reference)

    def measured(got):
        exact = reference["embeddings"]
        cosine = (got * exact).sum(-1) / np.linalg.norm(got, axis=-1)
        off = np.abs(got - exact).max()
        return {
            "max_abs": float(f"{off:.3g}"),
            "relative": float(f"{off / np.abs(exact).max():.3g}"),
            "one_minus_min_cosine": float(f"{1 - cosine.min():.3g}"),
        }

    about = json.loads((PLAIN / "fixture.json").read_text())
    about |= {
        "name": "qwen3_voyage",
        "note": "As voyage-4-nano: use_bidirectional_attention and a projection, linear.weight, of num_labels columns.",
        "versions": {"numpy": np.__version__},
        "arithmetic": "float64 in NumPy, checked against the fixture qwen3: scripts/voyage_fixture.py",
        "measured_against_reference": {
            "float32": measured(embeddings(rounded("f4")).astype("f8")),
            "float16_weights": measured(reference["embeddings.float16"]),
            "bfloat16_weights": measured(reference["embeddings.bfloat16"]),
        },
    }
    about.pop("largest_activation")
    (VOYAGE / "fixture.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
