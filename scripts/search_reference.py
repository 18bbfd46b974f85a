"""Writes tests/fixtures/search.json: the hits of sentence-transformers' `semantic_search` on 10,000 vectors.

    python scripts/search_reference.py      # with the versions in fixtures-requirements.txt

`tests/golden/search.rs` makes the same vectors, which are noise, so only the hits are stored. Each query has groups of equal
rows near it. torch does not define the order of equal scores: in `semantic_search` it changes with `top_k` and
`corpus_chunk_size`. Hits are therefore sorted by score and then by row.
"""

import json
import pathlib

import numpy as np
import torch
from sentence_transformers.util import cos_sim, dot_score, euclidean_sim, manhattan_sim, semantic_search

ROWS, WIDTH, QUERIES, TOP = 10_000, 64, 5, 40
FUNCTIONS = {"cosine": cos_sim, "dot": dot_score, "euclidean": euclidean_sim, "manhattan": manhattan_sim}


def noise(seed, count):
    """Returns the same noise as `noise` in tests/support/noise.rs."""
    with np.errstate(over="ignore"):
        h = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9)
        h ^= np.uint32(seed * 0x85EBCA6B & 0xFFFFFFFF)
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
        h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
        h = h ^ (h >> np.uint32(16))
    return h.astype(np.float32) / np.float32(2**31) - np.float32(1)


def vectors():
    """Returns the same queries and corpus as `vectors` in tests/golden/search.rs."""
    corpus = noise(31, ROWS * WIDTH).reshape(ROWS, WIDTH)
    # Rows differ in length, so that the cosine and the dot product rank differently.
    corpus *= (1 + np.arange(ROWS, dtype=np.float32) % 3)[:, None]
    queries = noise(32, QUERIES * WIDTH).reshape(QUERIES, WIDTH)
    for q in range(QUERIES):
        for group in range(4):
            row = queries[q] * np.float32(1 + group * 0.25) + corpus[q * 4 + group] * np.float32(0.25)
            for copy in range(2 + group):
                corpus[(q * 1999 + group * 613 + copy * 3331 + 100) % ROWS] = row
    return queries, corpus


queries, corpus = vectors()
fixture = {"rows": ROWS, "width": WIDTH, "top_k": TOP, "hits": {}}
for name, function in FUNCTIONS.items():
    found = semantic_search(
        torch.from_numpy(queries), torch.from_numpy(corpus), top_k=TOP + 1, score_function=function
    )
    fixture["hits"][name] = []
    for hits in found:
        hits.sort(key=lambda hit: (-hit["score"], hit["corpus_id"]))
        ranked = [(hit["corpus_id"], hit["score"]) for hit in hits]
        for (a, score), (b, other) in zip(ranked, ranked[1:]):
            # Equal rows have equal scores, and other scores differ by much more than f32 rounding.
            same = bool((corpus[a] == corpus[b]).all())
            assert same == (score == other), (name, a, b, score, other)
            assert same or score - other > 1e-6 * max(1, abs(score)), (name, a, b, score, other)
        assert ranked[TOP - 1][1] != ranked[TOP][1], name
        ties = sum(a[1] == b[1] for a, b in zip(ranked, ranked[1:]))
        assert ties >= 8, (name, ties)
        fixture["hits"][name].append([[row, round(score, 6)] for row, score in ranked[:TOP]])

path = pathlib.Path(__file__).parent.parent / "tests/fixtures/search.json"
lines = json.dumps(fixture).replace("]], ", "]],\n")
path.write_text(lines + "\n")
print(path, path.stat().st_size, "bytes")
