#!/usr/bin/env python3
"""Makes data/all-MiniLM-L6-v2.safetensors: the reference vectors of this model that `vectile verify` contains.

    python scripts/verify_reference.py

The script selects texts of all categories from tests/fixtures/minilm, whose vectors scripts/minilm_reference.py computed with
sentence-transformers in float64. It writes them in the format of `vectile verify --reference`: a tensor `embeddings` [texts, 384]
F32. The metadata has `texts` (a JSON list), `model`, `weights_sha256` (the SHA-256 of model.safetensors) and `arithmetic`.
"""
import json, os, struct
from safetensors.numpy import load_file

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIXTURE = os.path.join(ROOT, 'tests', 'fixtures', 'minilm')
WEIGHTS = '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db'
# The number of texts of each category. Of the categories with a length in their name, only lengths near the model's limits are used.
MOST = dict(plain=12, cjk=3, arabic_rtl=2, accents=3, emoji=2, numbers=3, code=3, punct=2, html=1, other_scripts=3, special_tokens=2, zerowidth=1, control=1,
            longword=1, repeat=2, onechar=2, empty=1, long=1, len_127=1, len_256=1, len_300=1)


def main():
    with open(os.path.join(FIXTURE, 'texts.jsonl'), encoding='utf-8') as f:
        rows = [json.loads(line) for line in f]
    left = dict(MOST)
    chosen = []
    for at, row in enumerate(rows):
        if left.get(row['category'], 0):
            left[row['category']] -= 1
            chosen.append(at)
    assert not any(left.values()) and len(chosen) <= 48, (left, len(chosen))
    embeddings = load_file(os.path.join(FIXTURE, 'reference.safetensors'))['embeddings'][chosen]
    texts = [rows[at]['text'] for at in chosen]
    about = dict(model='sentence-transformers/all-MiniLM-L6-v2', weights_sha256=WEIGHTS, arithmetic='float64', texts=json.dumps(texts, ensure_ascii=False))
    out = os.path.join(ROOT, 'data', 'all-MiniLM-L6-v2.safetensors')
    os.makedirs(os.path.dirname(out), exist_ok=True)
    # The file is written here, because the package safetensors writes metadata in a different order each time.
    tensor = dict(dtype='F32', shape=embeddings.shape, data_offsets=[0, embeddings.nbytes])
    header = json.dumps({'__metadata__': about, 'embeddings': tensor}, sort_keys=True).encode()
    header += b' ' * (-len(header) % 8)
    with open(out, 'wb') as f:
        f.write(struct.pack('<Q', len(header)) + header + embeddings.astype('<f4').tobytes())
    print(f'{out}: {len(texts)} texts, {os.path.getsize(out)} bytes')


main()
