#!/usr/bin/env python3
"""Makes tests/fixtures/minilm: the vectors of all-MiniLM-L6-v2 from sentence-transformers, in float64.

    python scripts/minilm_reference.py MODEL_DIR tests/fixtures/minilm/texts.jsonl OUT_DIR

The script needs the packages of scripts/fixtures-requirements.txt. MODEL_DIR is a copy of sentence-transformers/all-MiniLM-L6-v2.
Each line of texts.jsonl is an object with id, category and text. The script writes these files into OUT_DIR:

    tokens.jsonl                one object on each line: id, ids256 (the token ids at max_seq_length 256), n_full (the number of tokens before truncation)
    reference.safetensors       embeddings, embeddings_f16_weights, embeddings_bf16_weights: [texts, 384] F32, in the order of the
                                file. All arithmetic is float64, one text at a time. For the second and third, every weight of the
                                model (also biases, norms and tables) is rounded to that dtype
    hidden_states.safetensors   text<id>.ids and text<id>.hidden<0..6> (embedding output, then each layer) for six short texts
"""
import json, os, sys, warnings
import torch, transformers
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

warnings.filterwarnings('ignore')
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
HIDDEN = (0, 1, 9, 25, 26, 27)


def main(model_dir, texts_file, out):
    os.makedirs(out, exist_ok=True)
    with open(texts_file, encoding='utf-8') as f:
        rows = [json.loads(line) for line in f]
    texts = [r['text'] for r in rows]
    reference = {}
    for key, dtype in (('embeddings', None), ('embeddings_f16_weights', torch.float16), ('embeddings_bf16_weights', torch.bfloat16)):
        model = SentenceTransformer(model_dir, device='cpu', model_kwargs=dict(dtype=torch.float32)).eval()
        if dtype is not None:
            with torch.no_grad():
                for p in model.parameters():
                    p.copy_(p.to(dtype).to(p.dtype))
        model = model.double()
        vectors = model.encode(texts, batch_size=1, convert_to_tensor=True, show_progress_bar=False)
        assert vectors.dtype == torch.float64 and torch.isfinite(vectors).all()
        reference[key] = vectors.float().contiguous()
        if dtype is not None:
            cosine = torch.nn.functional.cosine_similarity(vectors, reference['embeddings'].double(), dim=1).min()
            print(f'{key}: against embeddings, max abs {float((vectors - reference["embeddings"].double()).abs().max()):.2e}, least cosine {float(cosine):.8f}', flush=True)
            continue
        ids = [model.preprocess([x])['input_ids'][0] for x in texts]
        raw = model[0].tokenizer.backend_tokenizer
        raw.no_truncation(), raw.no_padding()
        with open(os.path.join(out, 'tokens.jsonl'), 'w', encoding='utf-8') as f:
            for r, i, x in zip(rows, ids, texts):
                f.write(json.dumps(dict(id=r['id'], ids256=i.tolist(), n_full=len(raw.encode(x).ids))) + '\n')
        hidden = {}
        for n in HIDDEN:
            with torch.inference_mode():
                states = model[0].model(input_ids=ids[n][None], output_hidden_states=True).hidden_states
            hidden[f'text{n}.ids'] = ids[n]
            hidden.update({f'text{n}.hidden{k}': s[0].float().contiguous() for k, s in enumerate(states)})
        save_file(hidden, os.path.join(out, 'hidden_states.safetensors'))
        print(f'{key}: {len(texts)} texts, {sum(len(i) for i in ids)} tokens', flush=True)
    save_file(reference, os.path.join(out, 'reference.safetensors'))
    for name in ('reference.safetensors', 'hidden_states.safetensors'):
        os.chmod(os.path.join(out, name), 0o644)


if len(sys.argv) != 4:
    sys.exit(__doc__)
main(*sys.argv[1:])
