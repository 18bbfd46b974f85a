"""The worker's side of the protocol between run.py and the peers. protocol.rs has the same for peers in Rust."""
import json, os, sys, time
import numpy as np


def own_output():
    """Returns the stream for the worker's answers. From this call on, everything that libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    return out


def serve(out, about, embed, count):
    """Answers requests until stdin ends. `embed(texts, request)` returns vectors [texts, dim]. `count(texts)` returns the number of tokens, with special
    tokens and without padding; counting is not timed."""
    def say(value):
        out.write(json.dumps(value) + '\n')
        out.flush()

    say(about)
    for line in sys.stdin:
        try:
            say(answer(json.loads(line), embed, count))
        except Exception as error:
            say({'error': f'{type(error).__name__}: {error}'})


def answer(request, embed, count):
    with open(request['texts'], encoding='utf-8') as f:
        texts = f.read().splitlines()
    seconds = []
    for i in range(request.get('repeat', 1)):
        begun = time.perf_counter()
        vectors = embed(texts, request)
        seconds.append(time.perf_counter() - begun)
        if i == 0 and request.get('npy'):
            np.save(request['npy'], np.asarray(vectors, dtype=np.float32))
    return {'seconds': seconds, 'tokens': count(texts)}
