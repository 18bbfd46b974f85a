#!/usr/bin/env python3
"""Makes tests/fixtures/rerankers/*: tiny cross-encoders, and their scores of pairs from CrossEncoder of sentence-transformers.

    .fixtures/bin/python scripts/reranker_fixtures.py [NAME ...]      (the environment of make_fixtures.py)

Each directory is a model that CrossEncoder() loads, and has these files:
    pairs.json              the pairs
    reference.safetensors   scores [pairs, labels] F64 and logits [pairs, labels] F64, computed one pair at a time. scores.float16 and .bfloat16: scores
                            with matrices and tables rounded to that dtype. input_ids and token_type_ids [tokens] I64 of all pairs, with offsets
                            [pairs + 1] I64, without the padding tokens at the end that a decoder's classification head skips. full_lengths [pairs]
                            I64: token counts before truncation
    fixture.json            how the fixture was made, and the measured error of torch in f32
tests/golden/rerankers.rs tests every directory it finds. Decoders are in reranker_decoders.py.
"""
import json, os, sys, tempfile, zlib
import torch, transformers
from safetensors.torch import save_file
from sentence_transformers import CrossEncoder
from torch import nn

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import family_fixtures as families
import family_tokenizers as tokenizers
import make_fixtures as base

OUT = os.path.join(base.OUT, 'rerankers')
SIZES = families.SIZES
WORDS = dict(pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1)
RERANKERS = {}


def reranker(tokenizer, saved=True, activation=None, rewrite=None, longest=families.LONGEST, prompts=None, default_prompt=None, dtype=None, spoil=families.post_norm_outliers,
             template=None, answers=None, publish=None):
    """Registers a recipe that returns a transformers model with a classification head or a language model's head. If `saved` is False, the directory is as transformers
    saves it. `activation` is the argument of CrossEncoder. `rewrite(folder)` changes files. `template` is the tokenizer's chat template. `answers` are the words of a
    language model's LogitScore; the second is None if there is only one. `publish(folder)` changes the files after all scores are computed, to those of a model whose
    code is on the Hub and computes the same scores."""
    def register(make):
        RERANKERS[make.__name__] = dict(make=make, tokenizer=tokenizer, saved=saved, activation=activation, rewrite=rewrite, longest=longest,
                                        prompts=prompts, default_prompt=default_prompt, dtype=dtype, spoil=spoil, template=template, answers=answers, publish=publish)
        return make
    return register


def config(**more):
    return {**SIZES, 'num_labels': 1, **more}


def old_activation(value):
    """A `rewrite` of config.json to the format of sentence-transformers before version 4."""
    return lambda folder: base.edit(folder, 'config.json', lambda c: c.update(sbert_ce_default_activation_function=value))


def nested_activation(value):
    """A `rewrite` of config.json to the format of sentence-transformers 4 and 5."""
    return lambda folder: base.edit(folder, 'config.json', lambda c: c.update(sentence_transformers=dict(activation_fn=value, version='5.0.0')))


IDENTITY = 'torch.nn.modules.linear.Identity'
SIGMOID = 'torch.nn.modules.activation.Sigmoid'


@reranker(tokenizers.word_piece(), activation=nn.Identity())
def bert():
    """BERT as ms-marco-MiniLM: a pooler with tanh, token types, and scores that are logits. CrossEncoder saved this model."""
    return transformers.BertForSequenceClassification(transformers.BertConfig(**config()))


@reranker(tokenizers.word_piece(), saved=False)
def bert_bare():
    """BERT without modules.json and without an activation function. The default for one label is sigmoid."""
    return transformers.BertForSequenceClassification(transformers.BertConfig(**config(hidden_act='gelu_new')))


@reranker(tokenizers.word_piece(), saved=False, rewrite=old_activation(IDENTITY), dtype='float16')
def bert_old():
    """BERT with its activation function in the field of sentence-transformers before version 4, and a checkpoint in f16."""
    return transformers.BertForSequenceClassification(transformers.BertConfig(**config()))


@reranker(tokenizers.word_piece(), saved=False)
def bert_labels():
    """BERT with three labels, as for natural language inference, and no activation function."""
    return transformers.BertForSequenceClassification(transformers.BertConfig(**config(num_labels=3)))


@reranker(tokenizers.word_piece(), prompts={'query': 'find: ', 'web': 'search the web for '}, default_prompt='web')
def bert_prompts():
    """BERT with a default prompt, which is put before the first text of a pair."""
    return transformers.BertForSequenceClassification(transformers.BertConfig(**config()))


@reranker(tokenizers.byte_bpe(), saved=False, rewrite=nested_activation(SIGMOID))
def roberta():
    """RoBERTa: two separators between the texts, a hidden layer with tanh, and the activation function in the field of sentence-transformers 4 and 5."""
    return transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**config(**WORDS)))


@reranker(tokenizers.unigram(), saved=False)
def xlm_roberta():
    """XLM-RoBERTa as bge-reranker-v2-m3."""
    return transformers.XLMRobertaForSequenceClassification(transformers.XLMRobertaConfig(**config(**WORDS)))


@reranker(tokenizers.unigram(transformers.CamembertTokenizer, ('<s>NOTUSED', '<pad>', '</s>NOTUSED', '<unk>', '<unk>NOTUSED', '<s>', '</s>')))
def camembert():
    """CamemBERT with RoBERTa's head."""
    return transformers.CamembertForSequenceClassification(transformers.CamembertConfig(**config(**{**WORDS, 'bos_token_id': 5, 'eos_token_id': 6})))


@reranker(tokenizers.word_piece(), activation=nn.Tanh())
def distilbert():
    """DistilBERT: a hidden layer with ReLU, no token types, and tanh of the logit as the score."""
    return transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(vocab_size=families.PIECES, dim=32, n_heads=4, hidden_dim=64, n_layers=2, max_position_embeddings=82, num_labels=1))


@reranker(tokenizers.word_piece())
def electra():
    """ELECTRA: a hidden layer with GELU, and narrow tables."""
    return transformers.ElectraForSequenceClassification(transformers.ElectraConfig(**config(), embedding_size=22))


@reranker(tokenizers.word_piece_of(transformers.MPNetTokenizer, ('<s>', '<pad>', '</s>', '[UNK]', '<mask>')))
def mpnet():
    """MPNet with RoBERTa's head, two separators between the texts, and biases by distance."""
    return transformers.MPNetForSequenceClassification(transformers.MPNetConfig(**config()))


DEBERTA_TOKENS = tokenizers.unigram(transformers.DebertaV2Tokenizer, ('[PAD]', '[CLS]', '[SEP]', '[UNK]'), ('[MASK]',))


@reranker(DEBERTA_TOKENS)
def deberta_v2():
    """DeBERTa v3 as mxbai-rerank v1: the context pooler with GELU."""
    return transformers.DebertaV2ForSequenceClassification(transformers.DebertaV2Config(
        **config(max_position_embeddings=90), relative_attention=True, max_relative_positions=-1, position_buckets=32, norm_rel_ebd='layer_norm', share_att_key=True,
        pos_att_type='p2c|c2p', position_biased_input=False, type_vocab_size=0, layer_norm_eps=1e-7, pooler_hidden_size=32))


@reranker(tokenizers.byte_bpe(), spoil=None)
def modernbert():
    """ModernBERT: mean pooling, a dense layer, GELU and a norm before the logit."""
    return transformers.ModernBertForSequenceClassification(transformers.ModernBertConfig(
        **config(intermediate_size=40), pad_token_id=1, bos_token_id=0, eos_token_id=2, cls_token_id=0, sep_token_id=2, local_attention=16, classifier_pooling='mean'))


@reranker(tokenizers.unigram(transformers.AlbertTokenizer, ('<pad>', '<unk>', '[CLS]', '[SEP]', '[MASK]'), ()))
def albert():
    """ALBERT, whose pooler is the linear layer itself."""
    return transformers.AlbertForSequenceClassification(
        transformers.AlbertConfig(**config(num_hidden_layers=3), embedding_size=24, pad_token_id=0, bos_token_id=2, eos_token_id=3))


@reranker(tokenizers.unigram(), saved=False)
def gte():
    """gte-multilingual as transformers has it: a pooler with tanh, then the logit."""
    return transformers.GteForSequenceClassification(transformers.GteConfig(**config(pad_token_id=1, type_vocab_size=1)))


def from_hub(rename, fields, code):
    """A `publish` that gives the tensors the names on the Hub, and writes config.json with these fields and classes of Python code."""
    def publish(folder):
        base.weights(folder, rename)
        kept = ('dtype', 'id2label', 'label2id')
        auto_map = {name: f'{code[0]}--{where}' for name, where in code[1].items()}

        def change(c):
            values = {k: c[k] for k in kept if k in c}
            c.clear()
            c.update(fields, **values, auto_map=auto_map)
        base.edit(folder, 'config.json', change)
    return publish


NEW_CODE = 'Alibaba-NLP/new-impl', {'AutoConfig': 'configuration.NewConfig', 'AutoModel': 'modeling.NewModel', 'AutoModelForMaskedLM': 'modeling.NewForMaskedLM',
                                    'AutoModelForSequenceClassification': 'modeling.NewForSequenceClassification'}


@reranker(tokenizers.unigram(), saved=False, dtype='float16', publish=from_hub(
    lambda w: {k.replace('gte.', 'new.', 1) if k.startswith('gte.') else k: v for k, v in w.items()},
    config(model_type='new', architectures=['NewForSequenceClassification'], hidden_act='gelu', type_vocab_size=1, layer_norm_eps=1e-12, pad_token_id=1, position_embedding_type='rope', rope_theta=20000, rope_scaling=None,
           layer_norm_type='layer_norm', logn_attention_scale=False, logn_attention_clip1=False, pack_qkv=True, unpad_inputs=False, use_memory_efficient_attention=False), NEW_CODE))
def gte_hub():
    """gte-multilingual-reranker as on the Hub, with weights in float16."""
    rope = {'rope_type': 'default', 'rope_theta': 20000.0}
    return transformers.GteForSequenceClassification(transformers.GteConfig(**config(pad_token_id=1, type_vocab_size=1, rope_parameters=rope)))


FLASH_CODE = 'jinaai/jina-reranker-v2-base-multilingual', {
    'AutoConfig': 'configuration_xlm_roberta.XLMRobertaFlashConfig', 'AutoModel': 'modeling_xlm_roberta.XLMRobertaModel', 'AutoModelForPreTraining': 'modeling_xlm_roberta.XLMRobertaForPreTraining',
    'AutoModelForSequenceClassification': 'modeling_xlm_roberta.XLMRobertaForSequenceClassification'}
FLASH_NAMES = (('embeddings.LayerNorm', 'emb_ln'), ('encoder.layer.', 'encoder.layers.'), ('attention.output.dense', 'mixer.out_proj'), ('attention.output.LayerNorm', 'norm1'),
               ('intermediate.dense', 'mlp.fc1'), ('output.dense', 'mlp.fc2'), ('output.LayerNorm', 'norm2'))


def flash_names(w):
    """Renames XLM-RoBERTa's tensors to the names in modeling_xlm_roberta.py of Jina's flash implementation."""
    named = {}
    for k, v in w.items():
        if 'attention.self.key' in k or 'attention.self.value' in k:
            continue
        if 'attention.self.query' in k:
            v = torch.cat([w[k.replace('query', part)] for part in ('query', 'key', 'value')])
            k = k.replace('attention.self.query', 'mixer.Wqkv')
        for old, new in FLASH_NAMES:
            k = k.replace(old, new)
        named[k] = v
    return named


@reranker(tokenizers.unigram(), saved=False, dtype='bfloat16', publish=from_hub(
    flash_names, config(**WORDS, model_type='xlm-roberta', architectures=['XLMRobertaForSequenceClassification'], hidden_act='gelu', layer_norm_eps=1e-5, position_embedding_type='absolute',
                        use_flash_attn=True, emb_pooler=None, output_past=True), FLASH_CODE))
def jina_hub():
    """jina-reranker-v2-base-multilingual as on the Hub: XLM-RoBERTa with a table of positions, tensor names of Jina's flash implementation, and
    weights in bfloat16."""
    return transformers.XLMRobertaForSequenceClassification(transformers.XLMRobertaConfig(**config(**WORDS, layer_norm_eps=1e-5)))


# ---------------------------------------------------------------- building

def build(name, recipe, folder):
    seed = zlib.crc32(name.encode()) % 100000
    torch.manual_seed(seed)
    model = recipe['make']().eval()
    families.randomise(model, seed)
    transformer = getattr(model, model.base_model_prefix)
    if recipe['spoil']:
        recipe['spoil'](transformer, torch.arange(7, 7 + 480).reshape(-1, 20))
    with tempfile.TemporaryDirectory() as d:
        into = d if recipe['saved'] else folder
        model.save_pretrained(into)
        t = recipe['tokenizer']()
        t.model_max_length = recipe['longest']
        t.chat_template = recipe['template']
        t.save_pretrained(into)
        spread(into, *answers(t, recipe))
        if recipe['saved']:
            saved = CrossEncoder(d, device='cpu', activation_fn=recipe['activation'], prompts=recipe['prompts'], default_prompt_name=recipe['default_prompt'])
            if recipe['answers']:
                saved[1].true_token_id, saved[1].false_token_id = answers(t, recipe)
            base.save(saved, folder)
    families.compact(os.path.join(folder, 'tokenizer.json'))
    if os.path.exists(os.path.join(folder, 'generation_config.json')):
        os.remove(os.path.join(folder, 'generation_config.json'))
    if recipe['dtype']:
        dtype = getattr(torch, recipe['dtype'])
        base.weights(folder, lambda w: {k: v.to(dtype) for k, v in w.items()})
        base.edit(folder, 'config.json', lambda c: c.update(dtype=recipe['dtype']))
    if recipe['rewrite']:
        recipe['rewrite'](folder)


def answers(tokenizer, recipe):
    words = recipe['answers'] or ('yes', 'no')
    return [w and tokenizer.get_vocab().get(w) for w in words]


def reload(folder, dtype):
    return CrossEncoder(folder, device='cpu', model_kwargs=dict(dtype=dtype)).eval()


def predict(model, pairs, activation=None):
    with torch.inference_mode():
        rows = [model.predict([p], activation_fn=activation, convert_to_numpy=False, convert_to_tensor=True, show_progress_bar=False).reshape(1, -1) for p in pairs]
    return torch.cat(rows)


def spread(folder, true=None, false=None):
    """Shifts and scales the logits of the pairs to values around 0, two units apart, where a sigmoid shows differences."""
    m = reload(folder, torch.float64)
    decoder = getattr(m[0].model, 'lm_head', None) or getattr(m[0].model, 'score', None)
    if decoder:
        return spread_rows(folder, m, decoder, true, false)
    logits = predict(m, PAIRS[:12], nn.Identity())
    scale, shift = 2 / logits.std(0).clamp(min=1e-6), logits.mean(0)

    def change(w):
        last = [k[:-len('weight')] for k in w if k.startswith('classifier') and k.endswith('weight') and w[k].shape[0] == logits.shape[1]][-1]
        w[last + 'weight'] = (w[last + 'weight'].double() * scale[:, None]).float()
        w[last + 'bias'] = ((w[last + 'bias'].double() - shift) * scale).float()
        return w
    base.weights(folder, change)


def spread_rows(folder, m, head, true, false):
    """Centres the logits of a layer without a bias, with the smallest change of its rows that achieves this for a few pairs."""
    seen = []
    hook = head.register_forward_pre_hook(lambda _, i: seen.append(i[0][0]))
    predict(m, PAIRS[:12], nn.Identity())
    hook.remove()
    # If the classification head skips padding at the end, it reads the last token before the padding.
    last = torch.stack([x[-1 if hasattr(m[0].model, 'lm_head') else read_length(m, p) - 1] for x, p in zip(seen, PAIRS)])
    rows = head.weight[[i for i in (true, false) if i is not None]] if hasattr(m[0].model, 'lm_head') else head.weight
    logits = last @ (rows[:1] - rows[1:] if len(rows) == 2 and true is not None else rows).T
    change = (torch.linalg.pinv(last) @ ((logits - logits.mean(0)) * 2 / logits.std(0) - logits)).T.float()

    def add(w):
        if not hasattr(m[0].model, 'lm_head'):
            w['score.weight'] = w['score.weight'] + change
            return w
        name = 'lm_head.weight' if 'lm_head.weight' in w else 'model.embed_tokens.weight'
        w[name][true] += change[0] / (1 if false is None else 2)
        if false is not None:
            w[name][false] -= change[0] / 2
        return w
    base.weights(folder, add)


def read_length(m, pair, prompt=None):
    """Returns the tokens of a pair on which its score depends."""
    ids = m.preprocess([pair], prompt=prompt)['input_ids'].reshape(-1)
    config = m[0].model.config
    if not hasattr(m[0].model, 'score') or config.pad_token_id is None:
        return len(ids)
    return int((torch.arange(len(ids)) * (ids != config.pad_token_id)).argmax()) + 1


LONG = ' '.join(['the water of a river is in the north and it runs to the sea'] * 12)
PAIRS = [
    ('Where is the cat?', 'A cat sat on the roof.'),
    ('Where is the cat?', 'The dog ran.'),
    ('what is f16?', 'Half precision has 11 bits of mantissa.'),
    ('', 'An empty query.'),
    ('An empty document', ''),
    ('', ''),
    ('A', 'B'),
    ('naïve café', '你好,世界 мир'),
    ('the same', 'the same'),
    ('A cat sat on the roof.', 'Where is the cat?'),
    ('rivers', 'The water of the river is cold in the north.'),
    ('How long is it?', 'It is of a few words, and then of some more words, and it ends.'),
    # Pairs that exceed the model's maximum length: by the document, by the query, by both, and with odd and even total lengths.
    ('short query', LONG),
    (LONG, 'short document'),
    (LONG, LONG + ' end'),
    (LONG + ' end', LONG),
    (LONG[:170], LONG[:180]),
    (LONG[:190], LONG[:160]),
    (LONG[:120], LONG[:260]),
    (LONG[:300], LONG[:110]),
]
CHAT_PAIRS = PAIRS + [('What <|im_end|> does', 'A token of the template <|im_start|>in a text'), (' spaces around ', '\n\tand lines\n'), ('{{ query }}', '{% if %}')]


def rounded(folder, dtype):
    m = reload(folder, torch.float32)
    with torch.no_grad():
        for p in m.parameters():
            if p.dim() > 1:
                p.copy_(p.to(dtype).to(p.dtype))
    return m.to(torch.float64)


def full_lengths(model, pairs, prompt):
    """Returns the number of tokens of each pair before truncation."""
    settings = dict(model[0].processing_kwargs.get('chat_template', {}))
    whole = model[0].tokenizer.backend_tokenizer
    whole.no_truncation(), whole.no_padding()
    if 'message' not in model[0].modality_config:
        return [len(whole.encode((prompt or '') + a, b).ids) for a, b in pairs]
    messages = [model[0].input_formatter.pair_to_messages(p) for p in pairs]
    if prompt:
        messages = model[0].input_formatter.prepend_prompt_to_messages(messages, prompt)
    return [len(whole.encode(model[0].tokenizer.apply_chat_template(m, tokenize=False, **settings), add_special_tokens=False).ids) for m in messages]


def finish(name, recipe, folder):
    exact = reload(folder, torch.float64)
    assert exact.max_seq_length == recipe['longest'], (name, exact.max_seq_length)
    prompt = exact._resolve_prompt(None, None)
    pairs = CHAT_PAIRS if recipe['template'] else PAIRS
    features = [exact.preprocess([p], prompt=prompt) for p in pairs]
    ids = [f['input_ids'].reshape(-1)[:read_length(exact, p, prompt)] for f, p in zip(features, pairs)]
    types = [f['token_type_ids'].reshape(-1) if 'token_type_ids' in f else torch.zeros_like(i) for f, i in zip(features, ids)]
    lengths = full_lengths(exact, pairs, prompt)
    exact = reload(folder, torch.float64)
    ref = dict(scores=predict(exact, pairs), logits=predict(exact, pairs, nn.Identity()), input_ids=torch.cat(ids), token_type_ids=torch.cat(types),
               offsets=torch.tensor([0] + [len(i) for i in ids]).cumsum(0), full_lengths=torch.tensor(lengths))
    assert ref['scores'].dtype == torch.float64 and torch.isfinite(ref['scores']).all(), name
    assert ref['logits'].std(0).min() > .5, (name, ref['logits'].std(0))
    together = torch.as_tensor(exact.predict(pairs, convert_to_tensor=True, show_progress_bar=False)).reshape(len(pairs), -1)
    # Padding on the left shifts positions, whose rotary angles are float32 even in a float64 model.
    assert float((together - ref['scores']).abs().max()) < (1e-4 if exact[0].tokenizer.padding_side == 'left' else 1e-10), f'{name}: the reference depends on padding'
    worst = float((predict(reload(folder, torch.float32), pairs, nn.Identity()).double() - ref['logits']).abs().max())
    for dtype in (torch.float16, torch.bfloat16):
        ref[f'scores.{str(dtype)[6:]}'] = predict(rounded(folder, dtype), pairs)
    save_file({k: v.contiguous() for k, v in ref.items()}, os.path.join(folder, 'reference.safetensors'))
    base.write(folder, 'pairs.json', pairs)
    family = exact.config.model_type
    if recipe['publish']:
        recipe['publish'](folder)
        with open(os.path.join(folder, 'config.json')) as f:
            family = json.load(f)['model_type']
    base.write(folder, 'fixture.json', dict(name=name, family=family, note=' '.join(recipe['make'].__doc__.split()), versions=base.VERSIONS,
                                            arithmetic='float64, one pair at a time', activation=type(exact.activation_fn).__name__, prompt=prompt, torch_float32_logits=float(f'{worst:.2g}')))
    print(f'{name}: logits {ref["logits"].min():.2f} to {ref["logits"].max():.2f}, torch in f32 {worst:.1e}')


if __name__ == '__main__':
    sys.modules['reranker_fixtures'] = sys.modules[__name__]  # Recipes import this file by its name, even if it runs as a program.
    import reranker_decoders  # noqa: F401
    families.make_each(RERANKERS, OUT, build, finish)
