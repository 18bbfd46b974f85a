#!/usr/bin/env python3
"""Makes models of real width with reproducible weights, and their hidden states from transformers.

    .fixtures/bin/python scripts/wide_model.py                       makes tests/fixtures/wide (the environment of make_fixtures.py)
    .fixtures/bin/python scripts/wide_model.py --write DIR mistral   writes the whole model into DIR: 1.1 GB; with --layers 32, 14 GB

A fixture is a sentence-transformers directory without weights. tests/size.rs makes the weights from tensors.json and then loads the model,
so that no test needs Python, and the repository stays small. A fixture has these files:
    tensors.json            a list of [name, shape, kind, shard], in file order
    reference.safetensors   input_ids [tokens] I64 of the text in texts.json, and hidden [tokens, width] F32: the last hidden
                            states in float64 arithmetic on the bf16 weights
The values of a tensor are signed bytes of hashes of a counter (splitmix64), times a power of two, so bf16 and f16 hold them exactly.
"""
import argparse, json, math, os, shutil
import numpy as np
import torch, transformers
from safetensors.numpy import save_file

import make_fixtures as base

OUT = os.path.join(base.OUT, 'wide')


def hashed(tensor, first, count):
    """Returns `count` signed bytes of the tensor with number `tensor` (from 1), starting at byte `first`. `count` and `first` are multiples of eight."""
    with np.errstate(over='ignore'):
        z = (np.uint64(tensor) << np.uint64(40)) + np.arange(first // 8 + 1, (first + count) // 8 + 1, dtype=np.uint64)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z.astype('<u8').view(np.int8)


def values(tensor, kind, first, count):
    """Returns `count` values of a tensor as float32. The values of a `norm` are 0.75 to 1.24. Otherwise bytes are divided by 2 to the power of `kind`."""
    b = hashed(tensor, first, count)
    return ((b & 63).astype(np.float32) + 96) / np.float32(128) if kind == 'norm' else b.astype(np.float32) * np.float32(2.) ** -kind


def kind(name, shape):
    if len(shape) == 1:
        return 'norm' if name.endswith('weight') else 10
    if 'embed' in name:
        return 7
    # With this factor, sums of `width` products of values near 1 stay near 1.
    return 13 if shape[1] > 8192 else 12 if shape[1] > 2048 else 11


def mistral(layers):
    config = transformers.MistralConfig(vocab_size=32000, hidden_size=4096, intermediate_size=14336, num_hidden_layers=layers, num_attention_heads=32, num_key_value_heads=8,
                                        max_position_embeddings=32768, sliding_window=4096, rms_norm_eps=1e-5, rope_parameters={'rope_type': 'default', 'rope_theta': 10000.}, dtype='bfloat16')
    return transformers.MistralModel, config, 'lasttoken'


def xlm_roberta(layers):
    config = transformers.XLMRobertaConfig(vocab_size=250002, hidden_size=768, intermediate_size=3072, num_hidden_layers=layers, num_attention_heads=12,
                                           max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, dtype='bfloat16')
    return transformers.XLMRobertaModel, config, 'mean'


# The token ids of the text: the first and last rows of the embedding table, and rows on both sides of 128 MiB in 16 and in 32 bits.
MODELS = {
    'mistral': dict(make=mistral, layers=2, ids=[1, 5, 31999, 16383, 16384, 8191, 8192, 29000, 2], start=[1], end=[2]),
    'xlm_roberta': dict(make=xlm_roberta, layers=1, ids=[0, 3, 250001, 87380, 87381, 43690, 43691, 174762, 200000, 2], start=[0], end=[2]),
}


def tensors(make, layers):
    """Returns the names and shapes of the tensors in file order. One shard has the tables, and each layer has a shard."""
    cls, config, _ = make(layers)
    with torch.device('meta'):
        state = cls(config).state_dict()
    shards = ['tables'] + [f'layer-{i}' for i in range(layers)]
    listed = []
    for name, t in state.items():
        if 'pooler' in name or 'position_ids' in name or 'token_type_ids' in name:
            continue
        layer = next((i for i in range(layers) if f'layers.{i}.' in name or f'layer.{i}.' in name), -1)
        listed.append([name, list(t.shape), kind(name, t.shape), f'model-{layer + 2:05}-of-{len(shards):05}.safetensors'])
    return listed


def write_json(value, *path):
    path = os.path.join(*path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as f:
        json.dump(value, f, indent=1)
        f.write('\n')


def directory(folder, name, layers):
    """Writes all files except the weights. Each word of the tokenizer is a number, which is its token id."""
    cls, config, pooling = MODELS[name]['make'](layers)
    shutil.rmtree(folder, ignore_errors=True)
    config.architectures = [cls.__name__]
    write_json(config.to_diff_dict() | {'model_type': config.model_type}, folder, 'config.json')
    kinds = ['transformer.Transformer', 'pooling.Pooling', 'normalize.Normalize']
    paths = ['', '1_Pooling', '2_Normalize']
    prefix = ['sentence_transformers.base.modules.', 'sentence_transformers.sentence_transformer.modules.', 'sentence_transformers.base.modules.']
    write_json([{'idx': i, 'name': str(i), 'path': paths[i], 'type': prefix[i] + kinds[i]} for i in range(3)], folder, 'modules.json')
    write_json({'embedding_dimension': config.hidden_size, 'pooling_mode': pooling, 'include_prompt': True}, folder, '1_Pooling', 'config.json')
    write_json({'max_seq_length': 512}, folder, 'sentence_bert_config.json')
    ids = MODELS[name]['ids']
    special = sorted({*MODELS[name]['start'], *MODELS[name]['end']})
    vocab = {'<unk>': 3 if name == 'mistral' else 4} | {f'<{i}>' if i in special else str(i): i for i in sorted(ids)}
    tokens = [{'id': i, 'content': f'<{i}>', 'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False, 'special': True} for i in special]
    piece = lambda i: {'SpecialToken': {'id': f'<{i}>', 'type_id': 0}}
    single = [piece(i) for i in MODELS[name]['start']] + [{'Sequence': {'id': 'A', 'type_id': 0}}] + [piece(i) for i in MODELS[name]['end']]
    write_json({
        'version': '1.0', 'truncation': None, 'padding': None, 'added_tokens': tokens, 'normalizer': None, 'pre_tokenizer': {'type': 'WhitespaceSplit'},
        'post_processor': {'type': 'TemplateProcessing', 'single': single, 'pair': single + [{'Sequence': {'id': 'B', 'type_id': 0}}],
                           'special_tokens': {f'<{i}>': {'id': f'<{i}>', 'ids': [i], 'tokens': [f'<{i}>']} for i in special}},
        'decoder': None, 'model': {'type': 'WordLevel', 'vocab': vocab, 'unk_token': '<unk>'}}, folder, 'tokenizer.json')
    write_json({'tokenizer_class': 'PreTrainedTokenizerFast', 'pad_token': '<unk>'}, folder, 'tokenizer_config.json')
    listed = tensors(MODELS[name]['make'], layers)
    size = sum(2 * math.prod(shape) for _, shape, _, _ in listed)
    write_json({'metadata': {'total_size': size}, 'weight_map': {n: shard for n, _, _, shard in listed}}, folder, 'model.safetensors.index.json')
    return listed


def hidden_states(name):
    """Returns the hidden states in float64. Only one layer at a time is in memory, and only those table rows that the text needs."""
    make, layers, ids = (MODELS[name][k] for k in ('make', 'layers', 'ids'))
    listed = {n: (i + 1, shape, k) for i, (n, shape, k, _) in enumerate(tensors(make, layers))}

    def tensor(n):
        number, shape, k = listed[n]
        return torch.from_numpy(values(number, k, 0, math.prod(shape)).reshape(shape)).double()

    number, (_, width), k = next(iter(listed.values()))
    x = torch.from_numpy(np.stack([values(number, k, i * width, width) for i in ids])).double()[None]
    for layer in range(layers):
        cls, config, _ = make(1)
        config.vocab_size = 4
        with torch.device('meta'):
            model = cls(config)
        named = {n: n.replace('layers.0.', f'layers.{layer}.') for n, _ in model.named_parameters()}
        state = {n: tensor(source) if listed.get(source, [0, None])[1] == list(model.get_parameter(n).shape) else torch.zeros_like(model.get_parameter(n), device='cpu').double() for n, source in named.items()}
        model.load_state_dict(state, strict=False, assign=True)
        if name == 'mistral':
            model.rotary_emb = type(model.rotary_emb)(config)
            if layer + 1 < layers:
                model.norm = torch.nn.Identity()
        else:
            assert layers == 1
            model.embeddings = with_buffers(model.embeddings, config)
        with torch.inference_mode():
            x = model.eval()(inputs_embeds=x).last_hidden_state
    return x[0].float().numpy()


def with_buffers(embeddings, config):
    """Returns the module with the values of its buffers, which the meta device leaves empty."""
    fresh = type(embeddings)(config).double()
    fresh.load_state_dict({n: p for n, p in embeddings.named_parameters()}, strict=False)
    return fresh


def write(folder, name, layers):
    """Writes the model with its weights, one tensor at a time."""
    listed = directory(folder, name, layers)
    for shard in sorted({shard for *_, shard in listed}):
        header, end = {}, 0
        for n, shape, _, of in listed:
            if of == shard:
                header[n] = {'dtype': 'BF16', 'shape': shape, 'data_offsets': [end, end + 2 * math.prod(shape)]}
                end += 2 * math.prod(shape)
        text = json.dumps(header).encode()
        with open(os.path.join(folder, shard), 'wb') as f:
            f.write(len(text).to_bytes(8, 'little') + text)
            for i, (n, shape, k, of) in enumerate(listed):
                for first in range(0, math.prod(shape) if of == shard else 0, 1 << 22):
                    part = values(i + 1, k, first, min(1 << 22, math.prod(shape) - first))
                    f.write((part.view(np.uint32) >> 16).astype('<u2').tobytes())


def fixture(name):
    folder = os.path.join(OUT, name)
    listed = directory(folder, name, MODELS[name]['layers'])
    write_json(listed, folder, 'tensors.json')
    ids, start, end = (MODELS[name][k] for k in ('ids', 'start', 'end'))
    write_json([' '.join(map(str, ids[len(start):len(ids) - len(end)]))], folder, 'texts.json')
    save_file({'input_ids': np.array(ids, dtype=np.int64), 'hidden': hidden_states(name)}, os.path.join(folder, 'reference.safetensors'))
    write_json({'made_with': base.VERSIONS, 'arithmetic': 'float64, sdpa attention'}, folder, 'fixture.json')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', default=list(MODELS), metavar='NAME', help=', '.join(MODELS))
    parser.add_argument('--write', metavar='DIR', help='write the model NAME with its weights into DIR')
    parser.add_argument('--layers', type=int, help='the number of layers of the model that is written')
    args = parser.parse_args()
    if args.write:
        assert len(args.names) == 1, 'name one model'
        write(args.write, args.names[0], args.layers or MODELS[args.names[0]]['layers'])
    else:
        for each in args.names:
            fixture(each)
