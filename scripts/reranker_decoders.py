"""Makes rerankers that are decoders, for reranker_fixtures.py. Some are language models with a chat template, whose score comes from the logits of
answers. Others have a classification head over the last token."""
import os
import transformers
from tokenizers import processors
from torch import nn

import family_fixtures as families
import family_tokenizers as tokenizers
import make_fixtures as base
import reranker_fixtures as rerankers

# The positions suffice for the template and a pair of a few sentences, with a vocabulary of 512.
CHAT = 290
CHAT_SIZES = dict(families.SIZES, max_position_embeddings=CHAT + 2, pad_token_id=3, bos_token_id=None, eos_token_id=2)
# The template around a pair, from Qwen3-Reranker's model card.
JUDGE = """{%- set named = namespace(instruction='Given a web search query, retrieve relevant passages that answer the query') -%}
{%- for message in messages %}
  {%- if message.role == 'system' %}{% set named.instruction = message.content %}{% endif %}
{%- endfor -%}
<|im_start|>system
Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>
<|im_start|>user
<Instruct>: {{ named.instruction }}
<Query>: {{ messages | selectattr('role', 'equalto', 'query') | map(attribute='content') | first }}
<Document>: {{ messages | selectattr('role', 'equalto', 'document') | map(attribute='content') | first }}<|im_end|>
<|im_start|>assistant
<think>

</think>


"""
# This template tests messages with several parts, methods of Python's strings, and variables from the settings.
PARTS = """{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'].strip() }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{{ opening or '' }}{{ eos_token }}{% endif -%}
"""


def talking():
    """Returns a byte-level BPE tokenizer like Qwen's. No text has the tokens `yes` and `no`, since no merge makes them."""
    return tokenizers.byte_bpe(transformers.Qwen2Tokenizer, ('<|im_start|>', '<|im_end|>', '<|endoftext|>', '<|pad|>', 'yes', 'no'), pad_token='<|pad|>', eos_token='<|endoftext|>',
                               extra_special_tokens=['<|im_start|>', '<|im_end|>'])


def framed():
    """Returns a byte-level BPE tokenizer like Llama's. The end token is also the padding token, as in models without one."""
    def make():
        t = tokenizers.byte_bpe(transformers.PreTrainedTokenizerFast, ('<|begin_of_text|>', '<|end_of_text|>'), pad_token='<|end_of_text|>', eos_token='<|end_of_text|>', bos_token='<|begin_of_text|>')()
        ids = [('<|begin_of_text|>', 0), ('<|end_of_text|>', 1)]
        t.backend_tokenizer.post_processor = processors.TemplateProcessing(single='<|begin_of_text|> $A <|end_of_text|>', pair='<|begin_of_text|> $A <|end_of_text|> $B <|end_of_text|>', special_tokens=ids)
        return t
    return make


def template_in_config(folder):
    """A `rewrite` that moves the chat template to the file where transformers 4 stored it."""
    with open(os.path.join(folder, 'chat_template.jinja'), encoding='utf-8') as f:
        template = f.read()
    os.remove(os.path.join(folder, 'chat_template.jinja'))
    base.edit(folder, 'tokenizer_config.json', lambda c: c.update(chat_template=template))


def opening(folder):
    """A `rewrite` that adds settings with variables for the chat template."""
    base.edit(folder, 'sentence_bert_config.json', lambda c: c.update(processing_kwargs=dict(chat_template=dict(add_generation_prompt=True, opening='Answer: '))))


@rerankers.reranker(talking(), longest=CHAT, template=JUDGE, dtype='bfloat16', spoil=families.pre_norm_outliers, prompts={'cats': 'Given a question about cats, find what answers it', 'rivers': 'Find rivers'}, default_prompt='cats')
def qwen3():
    """Qwen3-Reranker: the score is the logit of `yes` minus that of `no`, from tied embeddings and the chat template. The instruction is a prompt."""
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**CHAT_SIZES, num_key_value_heads=2, head_dim=12, tie_word_embeddings=True))


@rerankers.reranker(talking(), saved=False, longest=CHAT, template=JUDGE, spoil=families.pre_norm_outliers, rewrite=template_in_config)
def qwen3_bare():
    """Qwen3-Reranker without modules.json, and with a head that is not tied. The default answers are `yes` and `no`, and the default activation is
    sigmoid."""
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**CHAT_SIZES, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False))


@rerankers.reranker(talking(), longest=CHAT, template=JUDGE, spoil=families.pre_norm_outliers)
def qwen3_seq_cls():
    """Qwen3-Reranker, converted to a classification head: one label over the last token, from a layer without a bias. The template is the same."""
    return transformers.Qwen3ForSequenceClassification(transformers.Qwen3Config(**CHAT_SIZES, num_labels=1, num_key_value_heads=2, head_dim=8))


@rerankers.reranker(talking(), longest=CHAT // 3, template=PARTS, spoil=families.pre_norm_outliers, activation=nn.Identity(), answers=('1', '0'), rewrite=opening)
def qwen2():
    """mxbai-rerank-v2: the answers are 1 and 0. The template tests messages with several parts, and variables from the settings."""
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**CHAT_SIZES, num_key_value_heads=1))


@rerankers.reranker(talking(), longest=CHAT // 3, template=PARTS, spoil=families.pre_norm_outliers, activation=nn.Identity(), answers=('yes', None), dtype='float16')
def mistral():
    """zerank: the score is the logit of one token."""
    return transformers.MistralForCausalLM(transformers.MistralConfig(**CHAT_SIZES, num_key_value_heads=2))


@rerankers.reranker(framed(), saved=False, spoil=families.pre_norm_outliers)
def llama():
    """A sequence classification head over the last token that is not padding. The end token is the padding token. The tokenizer joins the texts of a
    pair."""
    return transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**{**families.SIZES, 'pad_token_id': 1, 'bos_token_id': 0, 'eos_token_id': 1}, num_labels=1))
