"""Models without layers: sentence-transformers' StaticEmbedding, and model2vec as both libraries read it."""
import os
import model2vec as library
import numpy, safetensors.numpy, safetensors.torch, torch
from model2vec import StaticModel
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import nn

import family_tokenizers as tokenizers
import make_fixtures as base
from family_fixtures import PIECES, compare, family, of_length, report, whole


def written(t, truncation=None):
    """Returns a tokenizer with the settings that training leaves in its file: special tokens, padding and, if given, truncation."""
    t.enable_padding(length=50)
    if truncation:
        t.enable_truncation(truncation)
    return t


def outliers(table):
    table[:, 5] *= 8.
    table[11:14] *= 8.
    return table


@family(None, lambda h: [Normalize()], longest=70)
def static():
    """StaticEmbedding as sentence-transformers 6 saves it: no padding, and no special tokens although tokenizer.json adds them, but truncation to 70
    tokens. The vector of a text without tokens is zero. Normalize."""
    return StaticEmbedding(written(base.tokenizer(), 70), embedding_dim=30)


def old_folder(folder):
    os.mkdir(os.path.join(folder, '0_StaticEmbedding'))
    for f in ('model.safetensors', 'tokenizer.json'):
        os.rename(os.path.join(folder, f), os.path.join(folder, '0_StaticEmbedding', f))
    base.edit(folder, 'modules.json', lambda ms: [{**ms[0], 'path': '0_StaticEmbedding', 'type': 'sentence_transformers.models.StaticEmbedding'}] + ms[1:])


@family(None, lambda h: [Dense(h, 24, activation_function=nn.Tanh())], rewrite=old_folder, prompts={'query': 'query: '},
        cases={'embeddings': {}, 'embeddings.query': dict(prompt_name='query')})
def static_dense():
    """StaticEmbedding in its own folder under its old name, with a Unigram tokenizer, prompts and Dense."""
    return StaticEmbedding(written(tokenizers.unigram()().backend_tokenizer), embedding_dim=32)


# ---------------------------------------------------------------- model2vec

def shared_rows(seed, clusters, width):
    """Vocabulary quantization as model2vec saves it: few rows, and for each token the number of its row and a weight."""
    g = numpy.random.default_rng(seed)
    rows = outliers(g.normal(size=(clusters, width)).astype(numpy.float32) * .5)
    return rows, g.integers(0, clusters, PIECES), g.uniform(.1, 2., PIECES)


def mapped(folder):
    rows, mapping, weights = shared_rows(3, 120, 32)
    safetensors.numpy.save_file({'embeddings': rows.astype(numpy.float16), 'mapping': mapping, 'weights': weights}, os.path.join(folder, 'model.safetensors'))
    base.write(folder, 'config.json', dict(model_type='model2vec', architectures=['StaticModel'], tokenizer_name='tiny', normalize=False, embedding_dtype='float16', vocabulary_quantization=120, seq_length=1000000, hidden_dim=32))
    base.edit(folder, 'modules.json', lambda ms: [{**ms[0], 'path': '.', 'type': 'sentence_transformers.models.StaticEmbedding'}])
    os.remove(os.path.join(folder, 'config_sentence_transformers.json'))


@family(None, None, rewrite=mapped, random=False)
def static_model2vec():
    """A model2vec directory with modules.json, which sentence-transformers loads. Tokens share f16 rows (mapping), each token has a weight (weights,
    F64), and unknown tokens count, as in sentence-transformers."""
    rows, mapping, weights = shared_rows(3, 120, 32)
    table = StaticEmbedding._fold_model2vec_weights(rows.astype(numpy.float16), mapping, weights).float()
    return StaticEmbedding(written(base.tokenizer()), embedding_weights=table)


def model2vec(name, folder, note, rows, tokenizer, config, mapping=None, weights=None):
    """A directory that only model2vec loads, with references from model2vec in float64."""
    about = dict(model_type='model2vec', architectures=['StaticModel'], tokenizer_name='tiny', hidden_dim=rows.shape[1], **config)
    extra = {k: v for k, v in dict(mapping=mapping, weights=weights).items() if v is not None}
    safetensors.numpy.save_file({'embeddings': rows, **extra}, os.path.join(folder, 'model.safetensors'))
    base.write(folder, 'config.json', about)
    tokenizer.save(os.path.join(folder, 'tokenizer.json'), pretty=False)

    def loaded(dtype, round_to=None):
        m = StaticModel.from_pretrained(folder)
        table = torch.from_numpy(rows).double()
        if round_to:  # A runtime stores the rows in the form in which it uses them, rounded.
            table = table[mapping] if mapping is not None else table
            table = table * torch.from_numpy(weights)[:, None] if weights is not None else table
            m.token_mapping = m.weights = None
            table = table.float().to(round_to)
        m.embedding = table.to(dtype).numpy()
        return m
    exact = loaded(torch.float64)
    t = StaticModel.from_pretrained(folder).tokenizer
    t.no_truncation()
    texts = base.texts_for(t, 70, of_length) + ['water ' * 60, '中 ' * 40 + 'the end', 'zz中zz the 中', '中文' * 90]
    encode = lambda m: torch.from_numpy(numpy.stack([m.encode(x) for x in texts])).double()
    # model2vec sets the tokenizer's maximum length only while it encodes.
    limit = exact.max_length
    exact._set_max_length_in_tokenizer(limit)
    ids = [exact.tokenize([x if limit is None else x[:limit * exact.median_token_length]])[0] for x in texts]
    ref = {'embeddings': encode(exact), 'input_ids': torch.tensor([i for one in ids for i in one]), 'offsets': torch.tensor([0] + [len(i) for i in ids]).cumsum(0)}
    assert ref['embeddings'].abs().max() > 0
    measured = {'float32': compare(encode(loaded(torch.float32)), ref['embeddings'])}
    for dtype in (torch.float16, torch.bfloat16):
        label = str(dtype)[6:]
        ref[f'embeddings.{label}'] = encode(loaded(torch.float64, dtype)).float()
        measured[f'{label}_weights'] = compare(ref[f'embeddings.{label}'], ref['embeddings'])
    safetensors.torch.save_file(ref, os.path.join(folder, 'reference.safetensors'))
    base.write(folder, 'texts.json', texts)
    base.write(folder, 'fixture.json', dict(name=name, family='model2vec', note=note, versions={**base.VERSIONS, 'model2vec': library.__version__}, arithmetic='model2vec in float64, one text at a time',
                                            tensors={'embeddings': dict(encode={}, prompt=None)}, measured_against_reference=measured))
    report(name, folder, ref['embeddings'], measured)


@whole
def model2vec_int8(name, folder):
    rows, mapping, weights = shared_rows(4, 100, 32)
    rows = numpy.clip(numpy.rint(rows / numpy.abs(rows).max() * 127), -127, 127).astype(numpy.int8)
    model2vec(name, folder, 'Rows of int8, shared and scaled by token; normalize; max_length 20, before which a text is cut to 20 times the median length of a token in characters; [UNK] is left out.',
              rows, written(base.tokenizer(), 30), dict(normalize=True, max_length=20), mapping, weights)


@whole
def model2vec_plain(name, folder):
    g = numpy.random.default_rng(5)
    rows = outliers(g.normal(size=(PIECES, 32)).astype(numpy.float32) * .5)
    model2vec(name, folder, 'A row of f32 for each token of a Unigram tokenizer; no limit; not normalised; <unk> is left out.',
              rows, written(tokenizers.unigram()().backend_tokenizer), dict(normalize=False, max_length=None))
