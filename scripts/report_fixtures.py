#!/usr/bin/env python3
"""Writes tests/fixtures/reports.json: what sentence-transformers gives for models that public reports describe.

    python3 -m venv .fixtures && .fixtures/bin/pip install -r scripts/fixtures-requirements.txt
    python3 -m venv .fixtures4 && .fixtures4/bin/pip install transformers==4.57.6
    .fixtures/bin/python scripts/report_fixtures.py .fixtures4/bin/python

Each model is a fixture with a few changed files. tests/golden/reports.rs makes the same changes, so only texts and results are stored.
Vectors and scores are float64, one text at a time, as in make_fixtures.py. transformers 4 gives token ids only: sentence-transformers
6.2 needs transformers 5, so these ids go through its modules.
"""
import json, os, shutil, subprocess, sys, tempfile
import torch
from safetensors.torch import load_file, save_file
from make_fixtures import OUT, VERSIONS, edit, encode, reload, tokens, write

TRANSFORMERS_4 = '4.57.6'
READ_IDS = '''
import json, sys, transformers
assert transformers.__version__ == sys.argv[1], transformers.__version__
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[2])
print(json.dumps([tokenizer(text)['input_ids'] for text in json.loads(sys.argv[3])]))
'''


def copied(name, folder):
    shutil.copytree(os.path.join(OUT, name), folder)
    return folder


def numbers(rows):
    return [[round(value, 9) for value in row] for row in rows.tolist()]


def similarity_dot(folder):
    """embeddings-benchmark/mteb#1731 and facebookresearch/ReasonIR#15: the model's own function ranks unlike the cosine."""
    copied('bert_max', folder)
    edit(folder, 'config_sentence_transformers.json', lambda c: c.update(similarity_fn_name='dot'))
    query = 'Why is the sky blue?'
    texts = ['The sky is blue because air scatters light.', 'Water boils at a lower temperature on a mountain.', 'sky', 'A cat sat on the warm tin roof.', 'blue light blue light']
    model = reload(folder, torch.float64)
    vectors = encode(model, [query, *texts])
    scores = model.similarity(vectors[:1], vectors[1:])[0]
    ranks = scores.argsort(descending=True).tolist()
    cosine = torch.nn.functional.cosine_similarity(vectors[:1], vectors[1:]).argsort(descending=True).tolist()
    assert model.similarity_fn_name == 'dot' and ranks != cosine, (ranks, cosine)
    return dict(query=query, texts=texts, scores=numbers(scores[None])[0], ranks=ranks, ranks_by_cosine=cosine)


def added_tokens_decoder_only(folder):
    """sentence-transformers#1150: only the files beside tokenizer.json have the token."""
    copied('bert_mean_norm', folder)
    token = dict(content='[WORLD]', lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
    edit(folder, 'tokenizer_config.json', lambda c: c.update(added_tokens_decoder={'512': token}, additional_special_tokens=['[WORLD]']))
    write(folder, 'added_tokens.json', {'[WORLD]': 512})
    edit(folder, 'config.json', lambda c: c.update(vocab_size=513))
    file = os.path.join(folder, 'model.safetensors')
    weights = load_file(file)
    name = 'embeddings.word_embeddings.weight'
    weights[name] = torch.cat([weights[name], -weights[name][7:8]])  # the new token's row
    save_file(weights, file, {'format': 'pt'})
    texts = ['hello [WORLD]', '[WORLD]', 'a[WORLD]b', 'hello world']
    model = reload(folder, torch.float64)
    ids = [row.tolist() for row in tokens(model, texts)]
    assert [512 in row for row in ids] == [True, True, True, False], ids
    return dict(texts=texts, ids=ids, embeddings=numbers(encode(model, texts)))


def e5_mistral_eos(folder, python4):
    """mteb#5237 and sglang#21913: transformers 4 appends the end token that `add_eos_token` asks for, and 5 does not."""
    copied('families/mistral', folder)

    def without_end(tokenizer):
        post = tokenizer['post_processor']
        post['single'].pop()
        post['special_tokens'].pop('</s>')

    edit(folder, 'tokenizer.json', without_end)
    write(folder, 'tokenizer_config.json', dict(bos_token='<s>', eos_token='</s>', pad_token='<|pad|>', tokenizer_class='LlamaTokenizer', legacy=True, padding_side='left',
                                                add_bos_token=True, add_eos_token=True, model_max_length=80))
    texts = ['hello world', 'The tide turns twice a day.', 'x', '']
    model = reload(folder, torch.float64)
    old = json.loads(subprocess.check_output([python4, '-c', READ_IDS, TRANSFORMERS_4, folder, json.dumps(texts)]))
    new = [row.tolist() for row in tokens(model, texts)]
    assert old == [row + [0] for row in new], (old, new)

    def embedded(ids):
        row = torch.tensor([ids])
        with torch.no_grad():
            return model(dict(input_ids=row, attention_mask=torch.ones_like(row)))['sentence_embedding'][0]

    assert torch.equal(torch.stack([embedded(row) for row in new]), encode(model, texts))
    cases = {version: dict(ids=ids, embeddings=numbers(torch.stack([embedded(row) for row in ids]))) for version, ids in [('4', old), ('5', new)]}
    return dict(texts=texts, **cases)


def main():
    out = dict(versions=VERSIONS, transformers_4=TRANSFORMERS_4)
    with tempfile.TemporaryDirectory() as temporary:
        at = lambda name: os.path.join(temporary, name)
        out['similarity_dot'] = similarity_dot(at('dot'))
        out['added_tokens_decoder_only'] = added_tokens_decoder_only(at('added'))
        out['e5_mistral_eos'] = e5_mistral_eos(at('eos'), sys.argv[1])
    with open(os.path.join(OUT, 'reports.json'), 'w', encoding='utf-8') as f:
        f.write(json.dumps(out).replace('], [', '],\n[').replace('}, "', '},\n"') + '\n')


if __name__ == '__main__':
    main()
