#!/usr/bin/env python3
"""Makes tests/fixtures/sparse/*: tiny SPLADE models, and their vectors from SparseEncoder of sentence-transformers.

    .fixtures/bin/python scripts/sparse_fixtures.py [NAME ...]      (the environment of make_fixtures.py)

Each directory is a model that SparseEncoder() loads, and has texts.json, fixture.json and reference.safetensors. The latter has embeddings
[texts, vocabulary] F64, computed one text at a time; embeddings.float16 and .bfloat16, F32, with matrices and tables rounded to that dtype; and
queries, F64, if the model looks queries up in a table.
tests/golden/sparse.rs tests every directory it finds.
"""
import os, sys, tempfile, zlib
import torch, transformers
from safetensors.torch import save_file
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import family_fixtures as families
import family_tokenizers as tokenizers
import make_fixtures as base
from reranker_fixtures import LONG, SIZES, WORDS

OUT = os.path.join(base.OUT, 'sparse')
TEXTS = ['', 'a', 'A cat sat on the roof.', 'The dog ran.', 'what is f16?', 'naïve café 你好 мир', 'the same text twice', LONG, LONG[:150]]
MODELS = {}


def sparse(tokenizer, saved=True, untie=False, dims=None, lookup=False, **pooling):
    def register(make):
        MODELS[make.__name__] = dict(make=make, tokenizer=tokenizer, saved=saved, untie=untie, dims=dims, lookup=lookup, pooling=pooling)
        return make
    return register


@sparse(tokenizers.word_piece(), pooling_strategy='max')
def bert():
    """BERT whose token table is also the decoder. The vocabulary is wider than a block of columns. SparseEncoder saved this model."""
    return transformers.BertForMaskedLM(transformers.BertConfig(**{**SIZES, 'vocab_size': 4099}))


@sparse(tokenizers.word_piece(), saved=False)
def bert_bare():
    """BertForMaskedLM as transformers saves it, with max pooling by default and GELU with the tanh approximation."""
    return transformers.BertForMaskedLM(transformers.BertConfig(**SIZES, hidden_act='gelu_new'))


@sparse(tokenizers.word_piece(), untie=True, dims=24, pooling_strategy='max', activation_function='log1p_relu')
def bert_twice():
    """BERT with two applications of the logarithm, a separate decoder, and at most 24 weights for each text."""
    return transformers.BertForMaskedLM(transformers.BertConfig(**SIZES, tie_word_embeddings=False))


@sparse(tokenizers.word_piece(), pooling_strategy='max')
def distilbert():
    """DistilBERT, as in the sparse encoders for OpenSearch."""
    return transformers.DistilBertForMaskedLM(
        transformers.DistilBertConfig(vocab_size=families.PIECES, dim=32, n_heads=4, hidden_dim=64, n_layers=2, max_position_embeddings=82))


@sparse(tokenizers.unigram(), pooling_strategy='max')
def xlm_roberta():
    """XLM-RoBERTa."""
    return transformers.XLMRobertaForMaskedLM(transformers.XLMRobertaConfig(**SIZES, **WORDS))


@sparse(tokenizers.word_piece_of(transformers.MPNetTokenizer, ('<s>', '<pad>', '</s>', '[UNK]', '<mask>')), pooling_strategy='max')
def mpnet():
    """MPNet."""
    return transformers.MPNetForMaskedLM(transformers.MPNetConfig(**SIZES))


@sparse(tokenizers.word_piece(), lookup=True, pooling_strategy='max', activation_function='log1p_relu')
def opensearch():
    """DistilBERT for documents and a table of weights for queries, as in OpenSearch's encoders for documents."""
    return transformers.DistilBertForMaskedLM(
        transformers.DistilBertConfig(vocab_size=families.PIECES, dim=32, n_heads=4, hidden_dim=64, n_layers=2, max_position_embeddings=82))


def build(name, recipe, folder):
    seed = zlib.crc32(name.encode()) % 100000
    torch.manual_seed(seed)
    model = recipe['make']().eval()
    families.randomise(model, seed)
    families.post_norm_outliers(getattr(model, model.base_model_prefix), torch.arange(7, 7 + 480).reshape(-1, 20))
    sparsify(model)
    with tempfile.TemporaryDirectory() as d:
        into = d if recipe['saved'] else folder
        model.save_pretrained(into)
        t = recipe['tokenizer']()
        t.model_max_length = families.LONGEST
        t.save_pretrained(into)
        if recipe['saved']:
            modules = [Transformer(d, transformer_task='fill-mask'), SpladePooling(**recipe['pooling'])]
            if recipe['lookup']:
                # A query has at most 20 tokens, and a third of the vocabulary has no weight.
                t.model_max_length = 20
                weights = torch.rand(len(t), generator=torch.Generator().manual_seed(seed)).mul(9).sub(3).relu()
                modules = [Router.for_query_document([SparseStaticEmbedding(t, weights, frozen=True)], modules)]
            base.save(SparseEncoder(modules=modules, device='cpu', max_active_dims=recipe['dims']), folder)
    for directory, _, files in os.walk(folder):
        if 'tokenizer.json' in files:
            families.compact(os.path.join(directory, 'tokenizer.json'))


def sparsify(model):
    """Sets the biases of the logits so that about a fifth of the vocabulary has a positive logit in a text."""
    with torch.no_grad():
        largest = model(input_ids=torch.arange(7, 7 + 480).reshape(-1, 20)).logits.amax(1)
        bias = model.get_output_embeddings().bias
        bias -= largest.flatten()[:200000].quantile(.8)


def encode(model):
    with torch.inference_mode():
        return torch.cat([model.encode([x], convert_to_sparse_tensor=False, show_progress_bar=False) for x in TEXTS])


def reload(folder, dtype):
    return SparseEncoder(folder, device='cpu', model_kwargs=dict(dtype=dtype)).eval()


def finish(name, recipe, folder):
    exact = encode(reload(folder, torch.float64))
    assert exact.dtype == torch.float64 and torch.isfinite(exact).all()
    active = (exact > 0).float().mean(1)
    assert .01 < float(active.min()) and float(active.max()) < .8, (name, active)
    ref = dict(embeddings=exact)
    for dtype in (torch.float16, torch.bfloat16):
        m = reload(folder, torch.float32)
        with torch.no_grad():
            for p in m.parameters():
                if p.dim() > 1:
                    p.copy_(p.to(dtype).to(p.dtype))
        ref[f'embeddings.{str(dtype)[6:]}'] = encode(m.to(torch.float64)).float()
    if recipe['lookup']:
        model = reload(folder, torch.float64)
        with torch.inference_mode():
            queries = torch.cat([model.encode_query([x], convert_to_sparse_tensor=False, show_progress_bar=False) for x in TEXTS])
        assert 5 < int((queries > 0).sum(1).max()) <= 20, (queries > 0).sum(1)
        ref['queries'] = queries.double()
    worst = float((encode(reload(folder, torch.float32)) - exact).abs().max())
    save_file({k: v.contiguous() for k, v in ref.items()}, os.path.join(folder, 'reference.safetensors'))
    base.write(folder, 'texts.json', TEXTS)
    base.write(folder, 'fixture.json', dict(name=name, note=' '.join(recipe['make'].__doc__.split()), versions=base.VERSIONS, arithmetic='float64, one text at a time',
                                            torch_float32=float(f'{worst:.2g}')))
    print(f'{name}: {float(active.mean()):.2f} of the weights above zero, largest {float(exact.max()):.2f}, torch in f32 {worst:.1e}')


if __name__ == '__main__':
    families.make_each(MODELS, OUT, build, finish)
