"""Encoders whose attention depends on the distance of two tokens: a bias by distance (MPNet, T5) and disentangled attention (DeBERTa)."""
import transformers
from sentence_transformers.base.modules import Dense
from torch import nn

import family_tokenizers as tokenizers
from family_fixtures import PIECES, family, pool, post_norm_outliers, pre_norm_outliers, prefixed

# Distances around the ends of buckets. In MPNet and T5, each of the first 8 distances has a bucket. Other buckets start at 16, 32 and 64, and the
# last bucket has all distances from 128 on.
EDGES = (7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129)
PADS = ('<pad>', 'one <pad> within', '<pad><pad> two before', 'ends with <pad>')


@family(tokenizers.word_piece_of(transformers.MPNetTokenizer, ('<s>', '<pad>', '</s>', '[UNK]', '<mask>')), pool('mean', normalise=True), longest=130,
        spoil=post_norm_outliers, extra_texts=PADS, edges=EDGES, rewrite=prefixed('mpnet.', {'lm_head.bias': (PIECES,), 'lm_head.dense.weight': (32, 32)}))
def mpnet():
    """MPNet as all-mpnet-base-v2: one table of biases by distance for all layers, no token types, positions from 2. Tensors have the names of
    MPNetForMaskedLM."""
    return transformers.MPNetModel(transformers.MPNetConfig(vocab_size=PIECES, hidden_size=32, num_attention_heads=4, intermediate_size=64, num_hidden_layers=2, max_position_embeddings=132))


T5_TOKENS = tokenizers.unigram(transformers.T5Tokenizer, ('<pad>', '</s>', '<unk>'), ('<extra_id_1>', '<extra_id_0>'), extra_ids=2)
T5_SIZES = dict(vocab_size=PIECES, d_model=32, num_layers=2, num_heads=4)


def dense(hidden):
    return Dense(hidden, 24, bias=False, activation_function=nn.Identity())


@family(T5_TOKENS, pool('mean', True, dense), longest=130, spoil=pre_norm_outliers, dtype='float16', edges=EDGES)
def t5():
    """T5 as sentence-t5 and gtr-t5: relu, the biases of layer 0 for all layers, a head width that does not divide d_model, float16 weights, and Dense
    without bias after pooling."""
    return transformers.T5EncoderModel(transformers.T5Config(**T5_SIZES, d_kv=6, d_ff=64, feed_forward_proj='relu'))


@family(T5_TOKENS, pool('mean', True, include_prompt=False), spoil=pre_norm_outliers, edges=(16, 17, 31, 32),
        prompts={'retrieval': 'Represent the text for retrieval: '}, cases={'embeddings': {}, 'embeddings.prompt': {'prompt_name': 'retrieval'}})
def t5_gated():
    """T5 v1.1: a gated GELU and buckets of other sizes. Pooling leaves the prompt out, as in instructor."""
    return transformers.T5EncoderModel(transformers.T5Config(**T5_SIZES, d_kv=12, d_ff=42, feed_forward_proj='gated-gelu', relative_attention_num_buckets=12, relative_attention_max_distance=40))


@family(T5_TOKENS, pool('mean'), spoil=pre_norm_outliers)
def umt5():
    """UMT5: T5 v1.1 in which every layer has its own biases."""
    return transformers.UMT5EncoderModel(transformers.UMT5Config(**T5_SIZES, d_kv=8, d_ff=42))


DEBERTA_TOKENS = tokenizers.unigram(transformers.DebertaV2Tokenizer, ('[PAD]', '[CLS]', '[SEP]', '[UNK]'), ('[MASK]',))


@family(DEBERTA_TOKENS, pool('mean', normalise=True), longest=130, spoil=post_norm_outliers, edges=EDGES,
        rewrite=prefixed('deberta.', {'lm_predictions.lm_head.bias': (PIECES,), 'mask_predictions.dense.weight': (32, 32)}))
def deberta_v2():
    """DeBERTa as deberta-v3: both position terms use the layer's projections, buckets grow with distance, and there are no absolute positions and no
    token types."""
    return transformers.DebertaV2Model(transformers.DebertaV2Config(
        vocab_size=PIECES, hidden_size=32, num_attention_heads=4, intermediate_size=64, num_hidden_layers=2, max_position_embeddings=132, relative_attention=True, max_relative_positions=-1,
        position_buckets=32, norm_rel_ebd='layer_norm', share_att_key=True, pos_att_type='p2c|c2p', position_biased_input=False, type_vocab_size=0, layer_norm_eps=1e-7))


@family(DEBERTA_TOKENS, pool('cls'), spoil=lambda model, ids: post_norm_outliers(model, ids, (5, 17), 25.))
def deberta_v2_apart():
    """DeBERTa with separate projections for positions, distances clamped to 20 instead of buckets, absolute positions, token types, and a narrow
    token table."""
    return transformers.DebertaV2Model(transformers.DebertaV2Config(
        vocab_size=PIECES, hidden_size=30, num_attention_heads=3, intermediate_size=62, num_hidden_layers=2, max_position_embeddings=80, relative_attention=True, max_relative_positions=20,
        share_att_key=False, pos_att_type=['c2p', 'p2c'], position_biased_input=True, type_vocab_size=2, embedding_size=22))


@family(DEBERTA_TOKENS, pool('mean'), spoil=post_norm_outliers)
def deberta_v2_keys():
    """DeBERTa with only the position term of a query and a distance."""
    return transformers.DebertaV2Model(transformers.DebertaV2Config(
        vocab_size=PIECES, hidden_size=32, num_attention_heads=2, intermediate_size=64, num_hidden_layers=2, max_position_embeddings=80, relative_attention=True,
        position_buckets=8, norm_rel_ebd='layer_norm', share_att_key=True, pos_att_type=['c2p'], position_biased_input=False, type_vocab_size=0))
