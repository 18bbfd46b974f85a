#!/usr/bin/env python3
"""Makes tests/fixtures/multi_vector/*: tiny late-interaction models, and their vectors from MultiVectorEncoder of sentence-transformers.

    .fixtures/bin/python scripts/multi_vector_fixtures.py [NAME ...]      (the environment of make_fixtures.py)

Each directory is a model that MultiVectorEncoder() loads (except bge_m3, which FlagEmbedding loads), and has these files:
    texts.json              the texts, a JSON list
    reference.safetensors   where SIDE is query or document: SIDE.vectors [tokens of all texts without skipped ones, width] F64, one text at a time, with
                            SIDE.offsets [texts + 1] I64. SIDE.ids [tokens] I64 with SIDE.id_offsets: the input tokens. SIDE.vectors.float16 and .bfloat16,
                            F32: the vectors with matrices and tables rounded to that dtype. scores [texts, texts] F64, of queries (rows) and documents.
                            For bge_m3 also its sparse vectors, lexical [texts, vocabulary] F64, lexical.float16 and lexical.bfloat16
    fixture.json            how the fixture was made, and the measured error of torch in f32
tests/golden/multi_vector.rs tests every directory it finds.
"""
import os, shutil, string, sys, tempfile, zlib
import torch, transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import nn

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import family_fixtures as families
import family_tokenizers as tokenizers
import make_fixtures as base
from bge_m3 import BgeM3, convert_heads
from reranker_fixtures import LONG, SIZES, WORDS

OUT = os.path.join(base.OUT, 'multi_vector')
TEXTS = ['', 'a', 'A cat sat on the roof.', 'what is f16?', '!?, .', 'naïve café, 你好 (мир)!', 'The dog ran; the cat - "a cat" - did not.', '[MASK] and [unused0] are words', LONG[:90], LONG[:150], LONG]
PUNCTUATION = list(string.punctuation)
MODELS = {}


def multi(tokenizer, width=12, expansion=None, publish=None, mask=None, prompts=None, spoil=families.post_norm_outliers, similarity=None, more=(), added=(), **lengths):
    """Registers a recipe that returns a transformers model. `expansion` and `lengths` are arguments of the Transformer, and `mask` is the argument of the MultiVectorMask.
    `more` are Dense modules before the projection. `added` are tokens that are added to the tokenizer. `publish(folder)` rewrites the saved directory to another layout."""
    def register(make):
        MODELS[make.__name__] = dict(make=make, tokenizer=tokenizer, width=width, expansion=expansion, publish=publish, mask=mask or {}, prompts=prompts, spoil=spoil,
                                     similarity=similarity, more=more, added=added, lengths=lengths)
        return make
    return register


# ---------------------------------------------------------------- layouts

def pylate(model_type=None, types=False, **options):
    """A `publish` to the layout of PyLate, which lists only the Transformer and PyLate's own Dense."""
    def publish(folder):
        modules = [m for m in base_modules(folder) if m['type'].rsplit('.', 1)[1] in ('Transformer', 'Dense')]
        for m in modules:
            kind = m['type'].rsplit('.', 1)[1]
            m['type'] = 'pylate.models.Dense.Dense' if kind == 'Dense' else 'sentence_transformers.models.Transformer'
            if kind == 'Dense':
                base.edit(folder, f'{m["path"]}/config.json', lambda c: [c.pop(k, None) for k in ('module_input_name', 'module_output_name')] and None)
        for name in os.listdir(folder):
            if name.endswith(('MultiVectorMask', 'Normalize')):
                shutil.rmtree(os.path.join(folder, name))
        base.write(folder, 'modules.json', modules)
        base.write(folder, 'sentence_bert_config.json', dict(max_seq_length=families.LONGEST - 1, do_lower_case=False))

        def config(c):
            for key in ('model_type', 'prompts', 'similarity_fn_name'):
                c.pop(key, None)
            c.update(prompts={}, default_prompt_name=None, similarity_fn_name='MaxSim', **options)
            if model_type:
                c['model_type'] = model_type
        base.edit(folder, 'config_sentence_transformers.json', config)
    return publish


def base_modules(folder):
    import json
    with open(os.path.join(folder, 'modules.json'), encoding='utf-8') as f:
        return json.load(f)


def stanford(**metadata):
    """A `publish` to the layout of Stanford's ColBERT, which stores the projection with the transformer's weights."""
    def publish(folder):
        dense = next(m['path'] for m in base_modules(folder) if m['type'].endswith('Dense'))
        weights = {f'bert.{k}': v for k, v in load_file(os.path.join(folder, 'model.safetensors')).items()}
        weights['linear.weight'] = load_file(os.path.join(folder, dense, 'model.safetensors'))['linear.weight']
        save_file(weights, os.path.join(folder, 'model.safetensors'), metadata={'format': 'pt'})
        for name in os.listdir(folder):
            if os.path.isdir(os.path.join(folder, name)):
                shutil.rmtree(os.path.join(folder, name))
        for name in ('modules.json', 'config_sentence_transformers.json', 'sentence_bert_config.json'):
            os.remove(os.path.join(folder, name))
        base.edit(folder, 'config.json', lambda c: c.update(architectures=['HF_ColBERT']))
        base.write(folder, 'artifact.metadata', metadata)
    return publish


# ---------------------------------------------------------------- models

SIDES = {'query': 'query : ', 'document': 'passage : '}


@multi(tokenizers.word_piece(), prompts=SIDES, expansion=dict(strategy='fixed', length=16), mask=dict(skiplist_words=PUNCTUATION), document_length=40)
def bert():
    """BERT saved by MultiVectorEncoder. Queries are padded to 16 tokens; the padding attends, but no token attends to it. Documents are truncated to
    40 tokens, and punctuation is skipped."""
    return transformers.BertModel(transformers.BertConfig(**SIZES), add_pooling_layer=False)


@multi(tokenizers.word_piece(), expansion=dict(strategy='min', length=12, attend=True, token='[UNK]'), mask=dict(skiplist_words=['the', '.', 'no such piece'], skiplist_tasks=['query', 'document']),
       similarity='meanmaxsim', query_length=30, more=(nn.GELU(),), width=10)
def bert_attended():
    """Queries are padded to 12 tokens, to which all tokens attend, and truncated to 30. A skiplist applies to queries and documents. There are two
    Dense, one with a bias, and the score is a mean of maxima."""
    return transformers.BertModel(transformers.BertConfig(**SIZES), add_pooling_layer=False)


@multi(tokenizers.byte_bpe(), added=('[Q] ', '[D] '), spoil=lambda model, ids: families.pre_norm_outliers(model, ids, gain=8.),
       publish=pylate(query_prefix='[Q] ', document_prefix='[D] ', query_length=16, document_length=48, attend_to_expansion_tokens=False, skiplist_words=PUNCTUATION))
def modernbert():
    """ModernBERT as in PyLate's GTE-ModernColBERT: prefixes that are tokens including their space, a window of 16 tokens to each side, no model_type."""
    bytes = dict(pad_token_id=1, bos_token_id=0, eos_token_id=2, cls_token_id=0, sep_token_id=2)
    return transformers.ModernBertModel(transformers.ModernBertConfig(**{**SIZES, 'vocab_size': families.PIECES + 2, 'intermediate_size': 40}, **bytes, local_attention=32))


@multi(tokenizers.word_piece(), more=(None,), width=8, publish=pylate('ColBERT', query_prefix='[unused0]', document_prefix='[D] ', query_length=20, document_length=70, do_query_expansion=False))
def pylate_plain():
    """BERT as PyLate 1 saves it, without padding of queries. One prefix is a piece of the vocabulary, and the other is not a token. Punctuation is
    skipped by default, and Dense has a residual."""
    return transformers.BertModel(transformers.BertConfig(**SIZES), add_pooling_layer=False)


@multi(tokenizers.word_piece(), publish=stanford(query_token_id='[unused0]', doc_token_id='[unused1]', query_maxlen=24, doc_maxlen=50, attend_to_mask_tokens=True))
def stanford_bert():
    """BERT as Stanford's ColBERT saves it: HF_ColBERT with linear.weight and artifact.metadata. Tokens attend to mask tokens."""
    return transformers.BertModel(transformers.BertConfig(**SIZES), add_pooling_layer=False)


@multi(tokenizers.unigram(), prompts=SIDES, query_length=64, expansion=dict(strategy='min', length=20))
def xlm_roberta():
    """XLM-RoBERTa: positions start after pad_token_id, and there is no skiplist."""
    return transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**SIZES, **WORDS), add_pooling_layer=False)


@multi(tokenizers.word_piece_of(transformers.MPNetTokenizer, ('<s>', '<pad>', '</s>', '[UNK]', '<mask>')), expansion=dict(strategy='fixed', length=24), mask=dict(skiplist_words=PUNCTUATION))
def mpnet():
    """MPNet: distances to padding tokens, which attend to other tokens while no token attends to them."""
    return transformers.MPNetModel(transformers.MPNetConfig(**SIZES), add_pooling_layer=False)


@multi(tokenizers.unigram())
def bge_m3():
    """XLM-RoBERTa with the heads of bge-m3, colbert_linear and sparse_linear."""
    return transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**SIZES, **WORDS), add_pooling_layer=False)


# ---------------------------------------------------------------- building

def with_markers(tokenizer):
    """[unused0] and [unused1] are pieces of BERT's vocabulary, and no special tokens."""
    pieces = tokenizer.get_vocab()
    if '[unused0]' in pieces or not isinstance(tokenizer, transformers.BertTokenizer):
        return tokenizer
    rare = sorted(pieces, key=pieces.get)[-2:]
    for marker, piece in zip(('[unused0]', '[unused1]'), rare):
        pieces[marker] = pieces.pop(piece)
    return transformers.BertTokenizer(vocab=pieces)


def build(name, recipe, folder):
    seed = zlib.crc32(name.encode()) % 100000
    torch.manual_seed(seed)
    model = recipe['make']().eval()
    families.randomise(model, seed)
    recipe['spoil'](model, torch.arange(7, 7 + 480).reshape(-1, 20))
    with tempfile.TemporaryDirectory() as d:
        model.save_pretrained(d)
        t = with_markers(recipe['tokenizer']())
        t.model_max_length = families.LONGEST
        if recipe['added']:
            t.add_tokens(list(recipe['added']))
        t.save_pretrained(d)
        if name == 'bge_m3':
            shutil.copytree(d, folder, dirs_exist_ok=True)
            convert_heads(folder, recipe['width'], seed)
        else:
            transformer = Transformer(d, query_expansion=recipe['expansion'], **recipe['lengths'])
            token = dict(module_input_name='token_embeddings')
            hidden, modules = model.config.hidden_size, [transformer]
            for activation in recipe['more']:
                residual = {} if activation else dict(use_residual=True)
                modules.append(Dense(hidden, 20, bias=activation is not None, activation_function=activation or nn.Identity(), **token, **residual))
                hidden = 20
            modules.append(Dense(hidden, recipe['width'], bias=False, activation_function=nn.Identity(), **token))
            for i, m in enumerate(modules[1:]):
                families.randomise(m, seed + i + 1)
            modules += [MultiVectorMask(**recipe['mask']), Normalize(module_input_name='token_embeddings')]
            base.save(MultiVectorEncoder(modules=modules, device='cpu', prompts=recipe['prompts'], similarity_fn_name=recipe['similarity']), folder)
    if recipe['publish']:
        recipe['publish'](folder)
    families.compact(os.path.join(folder, 'tokenizer.json'))


# ---------------------------------------------------------------- references

def load(folder, dtype):
    if os.path.exists(os.path.join(folder, 'colbert_linear.safetensors')):
        return BgeM3(folder, dtype)
    return MultiVectorEncoder(folder, device='cpu', model_kwargs=dict(dtype=dtype)).eval()


def encode(model, side):
    call = model.encode_query if side == 'query' else model.encode_document
    with torch.inference_mode():
        return [call([x], show_progress_bar=False)[0] for x in TEXTS]


def ids(model, side):
    prompt = model.prompts.get(side)
    with torch.inference_mode():
        return [model.preprocess([x], prompt=prompt, task=side)['input_ids'][0] for x in TEXTS]


def offsets(rows):
    return torch.tensor([0] + [len(r) for r in rows]).cumsum(0)


def rounded(folder, dtype):
    m = load(folder, torch.float32)
    with torch.no_grad():
        for p in m.parameters():
            if p.dim() > 1:
                p.copy_(p.to(dtype).to(p.dtype))
    return m.to(torch.float64)


def lexical(folder, exact):
    @torch.inference_mode()
    def rows(m):
        return torch.stack([m.lexical(x, families.PIECES) for x in TEXTS])
    ref = {'lexical': rows(exact)}
    active = (ref['lexical'] > 0).sum(1)
    assert int(active.max()) > 10 and int(active[2:].min()) > 0, active
    return {**ref, **{f'lexical.{str(d)[6:]}': rows(rounded(folder, d)).float() for d in (torch.float16, torch.bfloat16)}}


def finish(name, recipe, folder):
    exact, ref = load(folder, torch.float64), {}
    single, worst = load(folder, torch.float32), 0.
    vectors = {}
    for side in ('query', 'document'):
        rows = vectors[side] = encode(exact, side)
        flat = torch.cat(rows)
        assert flat.dtype == torch.float64 and torch.isfinite(flat).all() and float((flat.norm(dim=1) - 1).abs().max()) < 1e-9, name
        together = (exact.encode_query if side == 'query' else exact.encode_document)(TEXTS, batch_size=len(TEXTS), show_progress_bar=False)
        assert all(a.shape == b.shape and float((a - b).abs().max()) < 1e-9 for a, b in zip(together, rows)), f'{name}: the reference depends on padding'
        ref[f'{side}.vectors'], ref[f'{side}.offsets'] = flat, offsets(rows)
        tokens = ids(exact, side)
        ref[f'{side}.ids'], ref[f'{side}.id_offsets'] = torch.cat(tokens), offsets(tokens)
        for dtype in (torch.float16, torch.bfloat16):
            ref[f'{side}.vectors.{str(dtype)[6:]}'] = torch.cat(encode(rounded(folder, dtype), side)).float()
        worst = max(worst, float((torch.cat(encode(single, side)) - flat).abs().max()))
    if isinstance(exact, BgeM3):
        ref.update(lexical(folder, exact))
    ref['scores'] = exact.similarity(vectors['query'], vectors['document']).double()
    save_file({k: v.contiguous() for k, v in ref.items()}, os.path.join(folder, 'reference.safetensors'))
    base.write(folder, 'texts.json', TEXTS)
    base.write(folder, 'fixture.json', dict(name=name, note=' '.join(recipe['make'].__doc__.split()), versions=base.VERSIONS, arithmetic='float64, one text at a time; scores in float32',
                                            torch_float32=float(f'{worst:.2g}')))
    size = sum(os.path.getsize(os.path.join(r, f)) for r, _, fs in os.walk(folder) for f in fs) // 1024
    rows = [f'{side} {ref[side + ".vectors"].shape[0]} of {ref[side + ".ids"].shape[0]}' for side in ('query', 'document')]
    print(f'{name:14s} {size:4d} KB  rows {", ".join(rows)}, torch in f32 {worst:.1e}', flush=True)


if __name__ == '__main__':
    families.make_each(MODELS, OUT, build, finish)
