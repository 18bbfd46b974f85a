#!/usr/bin/env python3
"""Writes the names and shapes of each model's tensors, as transformers defines them, into tests/published/*.json.

    .fixtures/bin/python scripts/published_shapes.py [PART OF A NAME ...]      (the environment of make_fixtures.py)

Each model is built from the config.json in its file on the meta device, which takes no memory. Where the model's code is on the Hub and not
in transformers, `weights.names` names that code (see families/hub_code.py); it is `none` where no tensor is read.
`weights.tensors` is the result: {0..11} in a name stands for every number of that range.
"""
import json, os, re, sys
import torch, transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import family_fixtures as families
import make_fixtures as base

FOLDER = os.path.join(base.ROOT, 'tests', 'published')


def of_transformers(config, loads):
    known = {k: v for k, v in config.items() if k not in ('auto_map', 'model_type', 'architectures', 'torch_dtype', 'dtype')}
    c = AutoConfig.for_model(config['model_type'], **known)
    causal = config['architectures'][0].endswith('ForCausalLM')
    kind = {'embed': AutoModel, 'multi': AutoModel, 'sparse': AutoModelForMaskedLM, 'score': AutoModelForCausalLM if causal else AutoModelForSequenceClassification}[loads]
    if c.model_type == 't5':
        kind = transformers.T5EncoderModel
    with torch.device('meta'):
        m = kind._from_config(c) if kind is transformers.T5EncoderModel else kind.from_config(c)
    tied = set(getattr(m, 'all_tied_weights_keys', None) or {})
    buffers = {k for k, _ in m.named_buffers()}
    return {k: list(v.shape) for k, v in m.state_dict().items() if k not in tied and k not in buffers}


def of_the_hub(config, names):
    sys.modules['family_fixtures'] = families
    families.load_recipes()
    hub = sys.modules.get('families_hub_code') or next(m for m in (r['make'] for r in families.FAMILIES.values() if 'make' in r) if m.__module__ == 'families_hub_code').__globals__
    hub = hub if isinstance(hub, dict) else vars(hub)
    h = config.get('hidden_size') or config['n_embd']
    layers = config.get('num_hidden_layers') or config['n_layer']
    biases = {'new': ['qkv', 'out', 'down'], 'nomic': [], 'nomic_moe': ['qkv', 'out', 'up', 'down'], 'jina': ['qkv', 'out', 'down']}[names]
    experts = dict(count=config['num_experts'], top=config['moe_top_k'], every=config['moe_every_n_layers']) if names == 'nomic_moe' else None
    c = hub['HubConfig'](hidden_size=h, num_hidden_layers=layers, intermediate_size=config.get('intermediate_size') or config['n_inner'], vocab_size=config['vocab_size'],
                         type_vocab_size=config['type_vocab_size'], layer_norm_eps=1e-12, names=hub[names.upper()], biases=biases, gated=names != 'nomic_moe', experts=experts, rotary={})
    with torch.device('meta'):
        m = hub['HubEncoder'](c)
    return {k: list(v.shape) for k, v in m.state_dict().items()}


def jina_v3(config):
    """xlm-roberta-flash with an adapter of rank 4 for each of five tasks."""
    h, inner, tasks, rank = config['hidden_size'], config['intermediate_size'], 5, 4
    linear, norm = {}, {}
    for name, (o, i) in {'mixer.Wqkv': (3 * h, h), 'mixer.out_proj': (h, h), 'mlp.fc1': (inner, h), 'mlp.fc2': (h, inner)}.items():
        for layer in range(config['num_hidden_layers']):
            at = f'roberta.encoder.layers.{layer}.{name}'
            linear |= {f'{at}.bias': [o], f'{at}.parametrizations.weight.original': [o, i], f'{at}.parametrizations.weight.0.lora_A': [tasks, rank, i],
                       f'{at}.parametrizations.weight.0.lora_B': [tasks, o, rank]}
    for at in ['roberta.emb_ln'] + [f'roberta.encoder.layers.{layer}.{n}' for layer in range(config['num_hidden_layers']) for n in ('norm1', 'norm2')]:
        norm |= {f'{at}.weight': [h], f'{at}.bias': [h]}
    tables = {}
    for name, rows in (('word_embeddings', config['vocab_size']), ('token_type_embeddings', 1)):
        at = f'roberta.embeddings.{name}.parametrizations.weight'
        tables |= {f'{at}.original': [rows, h], f'{at}.0.lora_A': [tasks, rank, rows], f'{at}.0.lora_B': [tasks, h, rank]}
    return tables | norm | linear


def ranges(tensors):
    """Tensors whose names differ in one number and whose shapes are the same, as one."""
    groups = {}
    for name, shape in tensors.items():
        found = re.search(r'(?<=\.)\d+(?=\.)', name)
        key = (name[:found.start()] + '{}' + name[found.end():] if found else name, tuple(shape))
        groups.setdefault(key, []).append(int(found.group()) if found else None)
    out = {}
    for (pattern, shape), numbers in groups.items():
        if numbers == list(range(len(numbers))) and len(numbers) > 1:
            out[pattern.replace('{}', '{0..%d}' % (len(numbers) - 1))] = list(shape)
        else:
            out.update({pattern if n is None else pattern.replace('{}', str(n)): list(shape) for n in numbers})
    return out


def main():
    for file in sorted(os.listdir(FOLDER)):
        if not file.endswith('.json') or (sys.argv[1:] and not any(part in file for part in sys.argv[1:])):
            continue
        path = os.path.join(FOLDER, file)
        with open(path, encoding='utf-8') as f:
            model = json.load(f)
        weights, config = model['weights'], model['files'].get('config.json')
        if weights:
            names = weights.get('names')
            if names == 'none':
                tensors = {'unread': [1]}
            elif names in ('model2vec', 'static'):
                tensors = {'embeddings' if names == 'model2vec' else 'embedding.weight': weights['table']}
            elif names == 'jina_v3':
                tensors = jina_v3(config)
            elif names:
                tensors = of_the_hub(config, names)
            else:
                tensors = of_transformers(config, model['loads'])
            if config and 'HF_ColBERT' in config.get('architectures', []):
                tensors = {f'bert.{k}': v for k, v in tensors.items()} | {'linear.weight': [model['files']['artifact.metadata']['dim'], config['hidden_size']]}
            weights['tensors'] = ranges({weights.get('prefix', '') + k: v for k, v in tensors.items()})
        with open(path, 'w', encoding='utf-8') as f:
            f.write(lines(model))
        print(file, len(weights['tensors']) if weights else 'no weights')


def lines(value, depth=0):
    """JSON with a line for each of the first three levels."""
    if isinstance(value, dict) and value and depth < 3:
        inner = ',\n'.join(' ' * (depth + 1) + json.dumps(k, ensure_ascii=False) + ': ' + lines(v, depth + 1) for k, v in value.items())
        return '{\n' + inner + '\n' + ' ' * depth + '}' + ('\n' if depth == 0 else '')
    return json.dumps(value, ensure_ascii=False)


if __name__ == '__main__':
    main()
