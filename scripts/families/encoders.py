"""Encoders with the layers of BERT, but with other embeddings, other tensor names or shared weights."""
import transformers
from sentence_transformers.base.modules import Dense
from torch import nn

import family_tokenizers as tokenizers
from family_fixtures import PIECES, SIZES, family, pool, post_norm_outliers, prefixed

WORDS = dict(pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1)
PADS = ('<pad>', 'one <pad> within', '<pad><pad> two before', 'ends with <pad>')


@family(tokenizers.byte_bpe(), pool('mean', normalise=True), spoil=post_norm_outliers, extra_texts=PADS,
        rewrite=prefixed('roberta.', {'lm_head.bias': (PIECES,), 'lm_head.layer_norm.weight': (32,)}))
def roberta():
    """RoBERTa: positions start after pad_token_id and skip pad tokens that a text contains. Tensors have the names of RobertaForMaskedLM."""
    return transformers.RobertaModel(transformers.RobertaConfig(**SIZES, **WORDS))


@family(tokenizers.unigram(), pool('cls', normalise=True), spoil=post_norm_outliers, extra_texts=PADS)
def xlm_roberta():
    """XLM-RoBERTa as in multilingual E5 and BGE-M3: a Unigram tokenizer, positions after pad_token_id, cls pooling."""
    return transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**SIZES, **WORDS))


@family(tokenizers.unigram(transformers.CamembertTokenizer, ('<s>NOTUSED', '<pad>', '</s>NOTUSED', '<unk>', '<unk>NOTUSED', '<s>', '</s>')), pool('mean'), spoil=post_norm_outliers)
def camembert():
    """CamemBERT: RoBERTa under another name, with the token ids 5 for bos and 6 for eos."""
    return transformers.CamembertModel(transformers.CamembertConfig(**SIZES, **{**WORDS, 'bos_token_id': 5, 'eos_token_id': 6}))


@family(tokenizers.word_piece(), pool('mean', False, lambda h: Dense(h, 24, activation_function=nn.Tanh())), spoil=post_norm_outliers,
        rewrite=prefixed('distilbert.', {'vocab_transform.weight': (32, 32), 'vocab_projector.bias': (PIECES,)}))
def distilbert():
    """DistilBERT: no token types, other tensor names, and Dense after pooling as in distiluse."""
    return transformers.DistilBertModel(transformers.DistilBertConfig(vocab_size=PIECES, dim=32, n_heads=4, hidden_dim=64, n_layers=2, max_position_embeddings=82))


@family(tokenizers.word_piece(), pool('mean', normalise=True), spoil=post_norm_outliers,
        rewrite=prefixed('electra.', {'discriminator_predictions.dense.weight': (32, 32), 'discriminator_predictions.dense_prediction.bias': (1,)}))
def electra():
    """ELECTRA: rows of the token table are narrower than the layers, and embeddings_project widens them."""
    return transformers.ElectraModel(transformers.ElectraConfig(**SIZES, embedding_size=22))


@family(tokenizers.word_piece(), pool('max'), spoil=post_norm_outliers)
def electra_wide():
    """ELECTRA with embedding_size equal to hidden_size, so that embeddings_project is absent."""
    return transformers.ElectraModel(transformers.ElectraConfig(**SIZES, embedding_size=32))


ALBERT = tokenizers.unigram(transformers.AlbertTokenizer, ('<pad>', '<unk>', '[CLS]', '[SEP]', '[MASK]'), ())


@family(ALBERT, pool('mean', normalise=True), spoil=post_norm_outliers, rewrite=prefixed('albert.', {'predictions.bias': (PIECES,), 'predictions.dense.weight': (24, 32)}))
def albert():
    """ALBERT: one layer that is applied three times, a narrow token table, gelu_new."""
    return transformers.AlbertModel(transformers.AlbertConfig(**{**SIZES, 'num_hidden_layers': 3}, embedding_size=24, pad_token_id=0, bos_token_id=2, eos_token_id=3))


@family(ALBERT, pool('mean'), spoil=lambda model, ids: post_norm_outliers(model, ids, (5, 17)))
def albert_groups():
    """ALBERT with two groups of two inner layers for five layers. The embedding is as wide as the layers, and is projected nevertheless."""
    sizes = {**SIZES, 'num_hidden_layers': 5, 'hidden_size': 24, 'num_attention_heads': 3, 'intermediate_size': 44}
    return transformers.AlbertModel(transformers.AlbertConfig(**sizes, embedding_size=24, num_hidden_groups=2, inner_group_num=2, pad_token_id=0, bos_token_id=2, eos_token_id=3))
