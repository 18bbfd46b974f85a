"""Vectile's Python package as a worker: `vectile_python_peer.py MODEL [--adapter A] [--dtype D]`. It has the same part in `benches/python.py` as
vectile_peer.rs, which calls the Rust library."""
import protocol

OUT = protocol.own_output()

import argparse
import vectile


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('model')
    parser.add_argument('--adapter', default='cpu')
    parser.add_argument('--dtype', default='float32')
    args = parser.parse_args()
    model = vectile.SentenceTransformer(args.model, device=args.adapter, model_kwargs={'dtype': args.dtype})
    adapter = str(model.adapter)
    # The number of tokens is not counted, because counting would add to the peak memory.
    protocol.serve(OUT, {'versions': {'vectile': vectile.__version__}, 'device': adapter}, lambda texts, request: model.encode(texts), lambda texts: None)


main()
