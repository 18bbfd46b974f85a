"""Shared by the client scripts: arguments, and results as JSON on stdout.

Each script takes the server's address, an embedding model, texts (a JSON list) and, if it ranks, a reranker. It prints
an object: `vectors` by the name of the way they were requested, `errors` by the name of the mistake, and further values
that its test checks.
"""

import json
import sys

address, model, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
reranker = sys.argv[4] if len(sys.argv) > 4 else None


def about(error):
    """Describes an exception: its class, its message and its HTTP status, which is null without one."""
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", getattr(response, "status_code", None))
    return {"class": type(error).__name__, "says": str(error), "status": status}


def caught(call):
    """Describes the exception that a call raises; null if it raises none."""
    try:
        call()
    except Exception as error:  # noqa: BLE001: the test checks which exception it is
        return about(error)
    return None


def numbers(rows):
    return [[float(value) for value in row] for row in rows]


def tell(**values):
    json.dump(values, sys.stdout)
