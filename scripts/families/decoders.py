"""Decoders, which are causal or made bidirectional, with rotary positions, shared keys, gated feed-forward layers and windows."""
import transformers
from sentence_transformers.base.modules import Dense
from torch import nn

import family_tokenizers as tokenizers
import make_fixtures as base
from family_fixtures import SIZES, family, pool, pre_norm_outliers, prefixed

LAST = pool('lasttoken', normalise=True)
IDS = dict(pad_token_id=1, bos_token_id=None, eos_token_id=0)
QUERY = {'query': 'Instruct: Given a question, find what answers it\nQuery:'}
CASES = {'embeddings': {}, 'embeddings.query': {'prompt_name': 'query'}}


def around(window, times=3):
    return tuple(k * window + d for k in range(1, times + 1) for d in (-1, 0, 1))


def edited(**changes):
    """A `rewrite` that sets fields of config.json; a value of None removes the field."""
    def rewrite(folder):
        def change(c):
            c.update(changes)
            for key in [k for k, v in changes.items() if v is None]:
                del c[key]
        base.edit(folder, 'config.json', change)
    return rewrite


@family(tokenizers.decoder(), LAST, spoil=pre_norm_outliers, dtype='bfloat16', prompts=QUERY, cases=CASES)
def qwen3():
    """Qwen3-Embedding: causal; heads are normed and wider than hidden / heads, two heads share keys, and the tokenizer appends the end token."""
    return transformers.Qwen3Model(transformers.Qwen3Config(**{**SIZES, 'num_hidden_layers': 3}, **IDS, num_key_value_heads=2, head_dim=12, rope_parameters={'rope_type': 'default', 'rope_theta': 1e6}))


@family(tokenizers.decoder(), pool('mean'), spoil=pre_norm_outliers, dtype='bfloat16', rewrite=edited(rope_parameters=None, rope_theta=5000.0))
def qwen3_bidirectional():
    """Bidirectional (is_causal false), with a bias in attention, stored as bfloat16. config.json has rope_theta as in transformers 4."""
    return transformers.Qwen3Model(transformers.Qwen3Config(**SIZES, **IDS, num_key_value_heads=1, head_dim=8, attention_bias=True, is_causal=False, rope_parameters={'rope_type': 'default', 'rope_theta': 5000.0}))


@family(tokenizers.decoder(), LAST, spoil=pre_norm_outliers, dtype='bfloat16', edges=around(20), rewrite=prefixed('model.', {'lm_head.weight': (7, 32)}))
def qwen2():
    """Causal, with a window from layer 1 on. Tensors have the names of Qwen2ForCausalLM."""
    return transformers.Qwen2Model(transformers.Qwen2Config(**SIZES, **IDS, num_key_value_heads=2, use_sliding_window=True, sliding_window=20, max_window_layers=1))


@family(tokenizers.decoder(), LAST, spoil=pre_norm_outliers, rewrite=edited(auto_map={'AutoModel': 'modeling_qwen.Qwen2Model', 'AutoModelForCausalLM': 'modeling_qwen.Qwen2ForCausalLM'}))
def qwen2_gte():
    """gte-Qwen2: bidirectional; config.json names Python code of the model."""
    return transformers.Qwen2Model(transformers.Qwen2Config(**SIZES, **IDS, num_key_value_heads=1, is_causal=False))


@family(tokenizers.decoder('</s>', '<s>', transformers.PreTrainedTokenizerFast), LAST, spoil=pre_norm_outliers, dtype='float16', edges=around(20), rewrite=edited(rope_parameters=None, rope_theta=10000.0))
def mistral():
    """e5-mistral: a causal window in every layer, and start and end tokens."""
    return transformers.MistralModel(transformers.MistralConfig(**SIZES, **IDS, num_key_value_heads=2, sliding_window=20))


@family(tokenizers.decoder('</s>', '<s>', transformers.PreTrainedTokenizerFast), pool('mean'), spoil=pre_norm_outliers, edges=around(9))
def mistral_bidirectional():
    """Bidirectional (is_causal false): the window extends to both sides and includes its bound. Positions are scaled linearly, and heads are narrower
    than hidden / heads."""
    return transformers.MistralModel(transformers.MistralConfig(**SIZES, **IDS, num_key_value_heads=4, head_dim=6, sliding_window=9, is_causal=False, rope_parameters={'rope_type': 'linear', 'rope_theta': 10000., 'factor': 4.}))


LLAMA3 = dict(rope_type='llama3', factor=8., low_freq_factor=1., high_freq_factor=4., original_max_position_embeddings=32)


@family(tokenizers.decoder('<|end_of_text|>', '<|begin_of_text|>', transformers.PreTrainedTokenizerFast), LAST, spoil=pre_norm_outliers, rewrite=edited(rope_parameters=None, rope_scaling=LLAMA3, rope_theta=500.0))
def llama():
    """Causal, with all biases, and with the rotary scaling of Llama 3.1 in the format of transformers 4."""
    return transformers.LlamaModel(transformers.LlamaConfig(**SIZES, **IDS, num_key_value_heads=2, attention_bias=True, mlp_bias=True, rope_parameters={**LLAMA3, 'rope_theta': 500.}))


@family(tokenizers.decoder(None, '<|begin_of_text|>', transformers.PreTrainedTokenizerFast), pool('mean', normalise=True), spoil=pre_norm_outliers)
def llama_bidirectional():
    """Bidirectional (is_causal false), each head with its own keys, mean pooling."""
    return transformers.LlamaModel(transformers.LlamaConfig(**SIZES, **IDS, is_causal=False))


@family(tokenizers.decoder('<|end_of_text|>', '<|begin_of_text|>', transformers.PreTrainedTokenizerFast), pool('mean', normalise=True), spoil=pre_norm_outliers,
        rewrite=edited(auto_map={'AutoConfig': 'configuration_eurobert.EuroBertConfig', 'AutoModel': 'modeling_eurobert.EuroBertModel', 'AutoModelForMaskedLM': 'modeling_eurobert.EuroBertForMaskedLM'}))
def eurobert():
    """Bidirectional, with YaRN, whose attention factor multiplies cosines and sines."""
    return transformers.EuroBertModel(transformers.EuroBertConfig(**SIZES, **{**IDS, 'mask_token_id': 3}, num_key_value_heads=2, rope_parameters={'rope_type': 'yarn', 'rope_theta': 2000., 'factor': 4., 'original_max_position_embeddings': 20}))


GEMMA = dict(SIZES, hidden_size=64, intermediate_size=48, num_key_value_heads=1, head_dim=8)


@family(tokenizers.decoder('<eos>', '<bos>', transformers.PreTrainedTokenizerFast), pool('mean', True, lambda h: Dense(h, 96, bias=False, activation_function=nn.Identity()), lambda _: Dense(96, 24, bias=False, activation_function=nn.Identity())),
        spoil=pre_norm_outliers, dtype='bfloat16', edges=around(8, 5), prompts={'query': 'task: search result | query: ', 'document': 'title: none | text: '}, cases=CASES)
def embedding_gemma():
    """EmbeddingGemma: bidirectional, with half of sliding_window to each side in two of three layers, two rotary bases, query_pre_attn_scalar, and
    Dense after pooling."""
    return transformers.Gemma3TextModel(transformers.Gemma3TextConfig(**{**GEMMA, 'num_hidden_layers': 3}, **IDS, sliding_window=16, query_pre_attn_scalar=24, use_bidirectional_attention=True, layer_types=['sliding_attention', 'full_attention', 'sliding_attention'],
                                                                      rope_parameters={'sliding_attention': {'rope_type': 'default', 'rope_theta': 1000.}, 'full_attention': {'rope_type': 'default', 'rope_theta': 1e5}}))


@family(tokenizers.decoder('<eos>', '<bos>', transformers.PreTrainedTokenizerFast), LAST, spoil=pre_norm_outliers, dtype='bfloat16', edges=around(12))
def gemma3():
    """Gemma 3: causal, with a causal window in the first layer and scaled positions in the other layer."""
    return transformers.Gemma3TextModel(transformers.Gemma3TextConfig(**GEMMA, **IDS, sliding_window=12, query_pre_attn_scalar=8, layer_types=['sliding_attention', 'full_attention'],
                                                                      rope_parameters={'sliding_attention': {'rope_type': 'default', 'rope_theta': 1000.}, 'full_attention': {'rope_type': 'linear', 'factor': 8., 'rope_theta': 1e5}}))
