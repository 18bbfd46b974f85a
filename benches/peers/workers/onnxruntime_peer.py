"""onnxruntime on the CPU as a peer: `onnxruntime_peer.py MODEL MODEL.onnx`. NumPy computes pooling and normalisation, as in sentence-transformers."""
import protocol

OUT = protocol.own_output()

import json, os, sys
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

TEXTS_OF_A_BATCH = 32


def main():
    directory, graph = sys.argv[1:]
    tokenizer = Tokenizer.from_file(os.path.join(directory, 'tokenizer.json'))
    with open(os.path.join(directory, 'sentence_bert_config.json'), encoding='utf-8') as f:
        tokenizer.enable_truncation(json.load(f)['max_seq_length'])
    tokenizer.no_padding()
    session = onnxruntime.InferenceSession(graph, providers=['CPUExecutionProvider'])
    takes_types = any(given.name == 'token_type_ids' for given in session.get_inputs())

    def run(ids):
        length = max(map(len, ids))
        batch = np.zeros((len(ids), length), dtype=np.int64)
        mask = np.zeros_like(batch)
        for row, tokens in enumerate(ids):
            batch[row, :len(tokens)] = tokens
            mask[row, :len(tokens)] = 1
        inputs = {'input_ids': batch, 'attention_mask': mask}
        if takes_types:
            inputs['token_type_ids'] = np.zeros_like(batch)
        hidden = session.run(None, inputs)[0]
        weights = mask[:, :, None].astype(np.float32)
        mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def embed(texts, request):
        ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda text: -len(ids[text]))
        rows = [None] * len(ids)
        for first in range(0, len(order), TEXTS_OF_A_BATCH):
            chunk = order[first:first + TEXTS_OF_A_BATCH]
            for text, row in zip(chunk, run([ids[text] for text in chunk])):
                rows[text] = row
        return np.array(rows)

    def count(texts):
        return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts))

    protocol.serve(OUT, {'versions': {'onnxruntime': onnxruntime.__version__}, 'device': f'CPU, {os.cpu_count()} threads'}, embed, count)


main()
