"""llama.cpp as a peer: `llama_cpp_peer.py MODEL.gguf cpu|vulkan [--flash-attn]`. Batches have 512 tokens, which is the fastest size without flash
attention, because llama.cpp also computes attention between the texts of a batch.

The environment variable GGML_VK_VISIBLE_DEVICES chooses the device: an empty value hides all devices, and 0 allows a software adapter.
"""
import protocol

OUT = protocol.own_output()

import argparse, ctypes, os
import numpy as np
import llama_cpp
from llama_cpp import _ggml

TOKENS = 512
CPU = 0


def devices():
    """Returns descriptions of the devices of ggml other than the CPU."""
    lib = _ggml.libggml
    for name, result, arguments in (('dev_count', ctypes.c_size_t, []), ('dev_get', ctypes.c_void_p, [ctypes.c_size_t]), ('dev_type', ctypes.c_int, [ctypes.c_void_p]),
                                    ('dev_description', ctypes.c_char_p, [ctypes.c_void_p])):
        function = getattr(lib, f'ggml_backend_{name}')
        function.restype, function.argtypes = result, arguments
    every = [lib.ggml_backend_dev_get(i) for i in range(lib.ggml_backend_dev_count())]
    return [lib.ggml_backend_dev_description(device).decode() for device in every if lib.ggml_backend_dev_type(device) != CPU]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('model')
    parser.add_argument('device', choices=['cpu', 'vulkan'])
    parser.add_argument('--flash-attn', action='store_true')
    args = parser.parse_args()
    llama_cpp.llama_backend_init()
    gpus = devices()
    if bool(gpus) != (args.device == 'vulkan'):
        raise SystemExit(f'asked for {args.device}, and the devices that ggml sees beside the CPU are {gpus}')
    threads = os.cpu_count()
    model = llama_cpp.Llama(args.model, embedding=True, n_gpu_layers=-1 if gpus else 0, n_ctx=TOKENS, n_batch=TOKENS, n_ubatch=TOKENS, n_threads=threads, n_threads_batch=threads,
                            flash_attn=args.flash_attn, verbose=False)

    def embed(texts, request):
        vectors = np.array(model.embed(texts), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def count(texts):
        return sum(len(model.tokenize(text.encode())) for text in texts)

    device = gpus[0] if gpus else f'CPU, {threads} threads'
    protocol.serve(OUT, {'versions': {'llama-cpp-python': llama_cpp.__version__}, 'device': device, 'settings': f'flash attention {"on" if args.flash_attn else "off"}'}, embed, count)


main()
