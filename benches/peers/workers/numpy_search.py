"""Searches a NumPy file of rows by matmul and argpartition, for benches/search.rs.

    python numpy_search.py CORPUS.npy QUERIES.npy TOP_K

Each line on stdin starts a search. The answer is one line of JSON: the seconds that the search took and, for each query, the rows that it found.
"""

import json
import sys
import time

import numpy

corpus, queries = numpy.load(sys.argv[1]), numpy.load(sys.argv[2])
top_k = int(sys.argv[3])
print(json.dumps({"numpy": numpy.__version__}), flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    scores = queries @ corpus.T
    best = numpy.argpartition(-scores, top_k - 1, axis=1)[:, :top_k]
    order = numpy.argsort(-numpy.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    rows = numpy.take_along_axis(best, order, axis=1)
    print(json.dumps({"seconds": time.perf_counter() - start, "rows": rows.tolist()}), flush=True)
