"""What the scripts of clients share: arguments, and answers as JSON on stdout.

Each script is called with the server's address, a model and texts (a JSON list), and prints an object: `vectors` by a
name of the way they came, `errors` by the name of the mistake, and whatever else its test looks at.
"""

import json
import sys

address, model, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


def about(error):
    """The class of an exception, what it says, and its status where it has one."""
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", getattr(response, "status_code", None))
    return {"class": type(error).__name__, "says": str(error), "status": status}


def caught(call):
    """What is known of the exception that a call ends in; null where it ends well."""
    try:
        call()
    except Exception as error:  # noqa: BLE001: which one it is, is what is asked
        return about(error)
    return None


def numbers(rows):
    return [[float(value) for value in row] for row in rows]


def tell(**what):
    json.dump(what, sys.stdout)
