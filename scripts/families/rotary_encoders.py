"""Encoders with rotary positions that are in transformers."""
import transformers

import family_tokenizers as tokenizers
import make_fixtures as base
from family_fixtures import PIECES, SIZES, family, pool, post_norm_outliers, pre_norm_outliers, prefixed

BYTES = dict(pad_token_id=1, bos_token_id=0, eos_token_id=2, cls_token_id=0, sep_token_id=2)


def milder(model, ids):
    """Makes outliers of 8 times the other values. With so few dimensions, two outliers of 40 times would dominate the mean that norms subtract."""
    pre_norm_outliers(model, ids, gain=8.)


@family(tokenizers.byte_bpe(), pool('mean', normalise=True), spoil=milder, edges=(7, 8, 9, 10, 15, 16, 17, 18, 25),
        rewrite=prefixed('model.', {'head.dense.weight': (32, 32), 'head.norm.weight': (32,), 'decoder.bias': (PIECES,)}))
def modernbert():
    """ModernBERT: windows of 8 tokens to each side, two rotary bases, no biases. Tensors have the names of ModernBertForMaskedLM."""
    return transformers.ModernBertModel(transformers.ModernBertConfig(**{**SIZES, 'num_hidden_layers': 4, 'intermediate_size': 40}, **BYTES, local_attention=16))


def older(folder):
    """Rewrites config.json to the format of transformers 4."""
    def change(config):
        config.pop('rope_parameters'), config.pop('layer_types')
        config.update(global_attn_every_n_layers=2, global_rope_theta=80000.0, local_rope_theta=5000.0, position_embedding_type='absolute', layer_norm_eps=1e-5, reference_compile=False)
    base.edit(folder, 'config.json', change)


@family(tokenizers.byte_bpe(), pool('cls'), edges=(4, 5, 6, 7, 9, 10, 11, 12, 21, 22, 23), spoil=milder, publish=older)
def modernbert_biases():
    """ModernBERT with all biases, an odd local_attention, a window in every second layer, an inner width that is not a multiple of 4, and config.json
    of transformers 4."""
    sizes = {**SIZES, 'hidden_size': 36, 'num_attention_heads': 3, 'intermediate_size': 45, 'num_hidden_layers': 3}
    rope = {'full_attention': {'rope_type': 'default', 'rope_theta': 80000.0}, 'sliding_attention': {'rope_type': 'default', 'rope_theta': 5000.0}}
    return transformers.ModernBertModel(transformers.ModernBertConfig(**sizes, **BYTES, local_attention=11, global_attn_every_n_layers=2, rope_parameters=rope, attention_bias=True, mlp_bias=True, norm_bias=True))


@family(tokenizers.word_piece(), pool('mean'), spoil=post_norm_outliers)
def nomic_bert():
    """NomicBERT as transformers has it."""
    return transformers.NomicBertModel(transformers.NomicBertConfig(**SIZES))


@family(tokenizers.unigram(), pool('cls', normalise=True), spoil=post_norm_outliers,
        rewrite=prefixed('new.', {'classifier.weight': (1, 32), 'classifier.bias': (1,)}))
def gte():
    """gte-multilingual as transformers has it: token types, cls pooling."""
    return transformers.GteModel(transformers.GteConfig(**SIZES, pad_token_id=1), add_pooling_layer=False)


@family(tokenizers.word_piece(), pool('mean'), spoil=post_norm_outliers)
def gte_no_types():
    """gte-base-en-v1.5 as transformers has it: no token types, cls pooling."""
    return transformers.GteModel(transformers.GteConfig(**SIZES, pad_token_id=0, type_vocab_size=0), add_pooling_layer=False)


@family(tokenizers.unigram(), pool('mean', normalise=True), spoil=post_norm_outliers, rewrite=prefixed('roberta.'))
def jina_v3():
    """jina-embeddings-v3 as transformers has it: no gate, all biases, no position table."""
    return transformers.JinaEmbeddingsV3Model(transformers.JinaEmbeddingsV3Config(**SIZES, pad_token_id=1), add_pooling_layer=False)
