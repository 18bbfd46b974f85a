#!/usr/bin/env python3
"""Makes tests/fixtures/bert_*: tiny BERT models with random weights, and their vectors from sentence-transformers.

    python3 -m venv .fixtures && .fixtures/bin/pip install -r scripts/fixtures-requirements.txt
    .fixtures/bin/python scripts/make_fixtures.py [NAME ...]

Each directory is a model that SentenceTransformer() loads, and has these files:
    texts.json              the texts, a JSON list
    reference.safetensors   embeddings [texts, width] F64 and, for models with prompts, embeddings.<case>.
                            input_ids [tokens] I64 of all texts, with offsets [texts + 1] I64. full_lengths [texts] I64:
                            token counts before truncation. hidden.<text>.<layer> [tokens, width] F32 for a few texts
    fixture.json            how each tensor was made, and the errors measured in other arithmetic
All reference arithmetic is float64 on the stored weights, one text at a time, with sdpa attention. transformers' eager
attention computes its softmax in float32 even in a float64 model.

The weights come from a seeded generator, so each run gives the same weights. Training WordPiece is not deterministic, so the tokenizer is
in the repository (tests/fixtures/tokenizer.json). The script trains it only if that file is absent.
"""
import json, math, os, shutil, sys, tempfile, warnings
import numpy, safetensors, sentence_transformers, tokenizers, torch, transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

warnings.filterwarnings('ignore')
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, 'tests', 'fixtures')
TOKENIZER = os.path.join(OUT, 'tokenizer.json')
PIECES = 512
TRIGGER = 'light'  # the word for which an activation of bert_overflow exceeds the range of float16
VERSIONS = {m.__name__: m.__version__.split('+')[0] for m in (torch, transformers, sentence_transformers, tokenizers, safetensors, numpy)}


# ---------------------------------------------------------------- tokenizer and texts

def tokenizer():
    if not os.path.exists(TOKENIZER):
        with open(os.path.join(ROOT, 'examples', 'collection.txt'), encoding='utf-8') as f:
            corpus = f.read().splitlines()
        corpus += ['naïve café über', '0 1 2 3 4 5 6 7 8 9', '! " # $ % & \' ( ) * + , - . / : ; < = > ? @ [ ] _ { } ~', '中 文 日 本', 'é ü ß ñ', 'query : passage :'] * 3
        t = Tokenizer(models.WordPiece(unk_token='[UNK]'))
        t.normalizer = normalizers.BertNormalizer(lowercase=True)
        t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        t.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=PIECES, show_progress=False, special_tokens=['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']))
        t.post_processor = processors.TemplateProcessing(single='[CLS] $A [SEP]', pair='[CLS] $A [SEP] $B:1 [SEP]:1', special_tokens=[('[CLS]', 2), ('[SEP]', 3)])
        t.decoder = decoders.WordPiece()
        os.makedirs(OUT, exist_ok=True)
        t.save(TOKENIZER)
    return Tokenizer.from_file(TOKENIZER)


def of_length(t, n):
    """Returns a text of exactly n tokens, with [CLS] and [SEP]. Its first word is different for each n."""
    words = [w for w in ('the', 'water', 'of', 'a', 'is', 'and', 'in', 'to', 'for', 'with', 'it', 'on') if len(t.encode(w, add_special_tokens=False).ids) == 1]
    text = ' '.join(words[(i * 5 + i // 7 + n) % len(words)] for i in range(n - 2))
    assert len(t.encode(text).ids) == n, (n, text)
    return text


def texts_for(t, longest, of_length=of_length, edges=()):
    lengths = sorted({3, 31, 32, 33, 63, 64, 65, longest - 1, longest, longest + 1, *edges} | ({127, 128, 129} if longest > 129 else set()))
    return [
        '', ' ', 'a', '中', '.',
        'A cat sat on the warm tin roof.',
        'the same text twice', 'the same text twice',
        'Naïve café, ÜBER-große façade: Crème brûlée!',
        '日本語と中文 mixed with English',
        'smile 😀👩‍👩‍👧 and wave 👋🏽',
        'UPPER lower MiXeD 12345 3.14 $9.99 #tag @you',
        '[CLS] is only a word here, [SEP] and [MASK] too',
        'zero\u200bwidth, tab\tand\nnew line, \u00a0 no-break',
        'supercalifragilisticexpialidocious ' + 'x' * 120,
        'Tides raised by the Earth slowed the spin of our satellite until one turn took exactly as long as one orbit.',
        'Water the beds in the morning; wet leaves overnight invite trouble. ' * 12,
    ] + [of_length(t, n) for n in lengths]


# ---------------------------------------------------------------- weights

def config(hidden=32, heads=4, inner=64, layers=2, positions=82, **more):
    c = dict(vocab_size=PIECES, hidden_size=hidden, num_attention_heads=heads, intermediate_size=inner, num_hidden_layers=layers,
             max_position_embeddings=positions, type_vocab_size=2, hidden_act='gelu', layer_norm_eps=1e-12, pad_token_id=0)
    c.update(more)
    return transformers.BertConfig(**c)


def randomise(module, seed):
    """Randomises the parameters, so that biases are not near 0, norm weights are not near 1, and activations are near 1. A mistake in any of them
    then changes vectors."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(module.named_parameters()):
            r = torch.randn(p.shape, generator=g)
            if name.endswith('bias'):
                p.copy_(.1 * r)
            elif p.dim() == 1:
                p.copy_(1 + .2 * r)
            elif 'embeddings' in name:
                p.copy_(.5 * r)
            else:
                p.copy_(r * 1.2 / math.sqrt(p.shape[-1]))


def outliers(bert, dims, gain):
    """Makes the values of a few hidden dimensions about `gain` between the layers, as in trained BERT models. The other dimensions stay near 1.
    Each norm is set according to its inputs from the layers below. Layers that read the few dimensions get small weights, and the last norm
    scales these dimensions down to a few units."""
    norms = [bert.embeddings.LayerNorm] + [n for l in bert.encoder.layer for n in (l.attention.output.LayerNorm, l.output.LayerNorm)]
    ids = torch.arange(5, PIECES - 7).reshape(-1, 20)
    few = torch.zeros(bert.config.hidden_size, dtype=torch.bool)
    few[dims] = True
    with torch.no_grad():
        for l in bert.encoder.layer:
            for linear in (l.attention.self.query, l.attention.self.key, l.attention.self.value, l.intermediate.dense):
                linear.weight[:, dims] *= 1. / gain
        for norm in norms:
            seen = []
            hook = norm.register_forward_hook(lambda _, i, o: seen.append(nn.functional.layer_norm(i[0], i[0].shape[-1:])))
            bert(ids)
            hook.remove()
            x = seen[0].reshape(-1, few.numel())
            norm.weight.mul_(torch.where(few, (3. if norm is norms[-1] else .7 * gain) / x.pow(2).mean(0).sqrt(), 1. / x.std(0)))
            norm.bias.sub_(torch.where(few, torch.zeros(()) if norm is not norms[-1] else x.mean(0) * norm.weight, x.mean(0) * norm.weight))


def overflow(bert, t):
    """Makes one inner value of layer 0 exceed 65,504, only for the token TRIGGER. The row of TRIGGER in the token table is large in one
    dimension, the norm after attention enlarges that dimension, and one inner unit reads only that dimension. Later layers scale the value
    down, so no value exceeds float32."""
    ids = t.encode(TRIGGER, add_special_tokens=False).ids
    assert len(ids) == 1, f'{TRIGGER} must be one piece, got {t.encode(TRIGGER).tokens}'
    d, unit, e, l = 7, 11, bert.embeddings, bert.encoder.layer[0]
    with torch.no_grad():
        for table in (e.word_embeddings, e.position_embeddings, e.token_type_embeddings):
            table.weight[:, d] *= .05
        e.word_embeddings.weight[ids[0], d] = 8.
        e.LayerNorm.weight[d], e.LayerNorm.bias[d] = 1., 0.
        l.attention.output.dense.weight[d] *= .05
        l.attention.output.dense.bias[d] = 0.
        l.attention.output.LayerNorm.weight[d], l.attention.output.LayerNorm.bias[d] = 40., 0.
        l.intermediate.dense.weight[:, d] *= 1 / 40
        l.intermediate.dense.weight[unit] = 0.
        l.intermediate.dense.weight[unit, d] = 900.
        l.output.dense.weight[:, unit] *= 1e-3
        l.output.LayerNorm.weight[d] = .2


# ---------------------------------------------------------------- building

def build(name, seed, cfg, tail, longest=80, prompts=None, default_prompt=None, spoil=None):
    """Returns a SentenceTransformer with random weights: a Transformer and the modules that `tail(hidden_size)` returns."""
    t = tokenizer()
    with tempfile.TemporaryDirectory() as d:
        torch.manual_seed(seed)
        bert = transformers.BertModel(cfg).eval()
        randomise(bert, seed)
        if spoil:
            spoil(bert, t)
        bert.save_pretrained(d)
        t.save(os.path.join(d, 'tokenizer.json'))
        write(d, 'tokenizer_config.json', dict(tokenizer_class='BertTokenizer', do_lower_case=True, model_max_length=longest, unk_token='[UNK]',
                                                sep_token='[SEP]', pad_token='[PAD]', cls_token='[CLS]', mask_token='[MASK]'))
        modules = [Transformer(d)] + tail(cfg.hidden_size)
    for i, m in enumerate(modules[1:]):
        randomise(m, seed * 100 + i)
    return SentenceTransformer(modules=modules, device='cpu', prompts=prompts, default_prompt_name=default_prompt)


def write(folder, name, value):
    with open(os.path.join(folder, name), 'w', encoding='utf-8') as f:
        json.dump(value, f, indent=2, ensure_ascii=False)
        f.write('\n')


def edit(folder, name, change):
    with open(os.path.join(folder, name), encoding='utf-8') as f:
        value = json.load(f)
    value = change(value) or value
    write(folder, name, value)


def save(model, folder):
    shutil.rmtree(folder, ignore_errors=True)
    model.save(folder, create_model_card=False)


# ---------------------------------------------------------------- references

def encode(model, texts, **options):
    return model.encode(texts, batch_size=1, convert_to_tensor=True, show_progress_bar=False, **options)


def tokens(model, texts, prompt=None):
    return [model.preprocess([x], prompt=prompt)['input_ids'][0] for x in texts]


def stored_in(model, dtype):
    """Adds hooks that round every activation that a runtime stores to `dtype`. Arithmetic is in the model's dtype."""
    def rounded(_, __, out):
        f = lambda x: x.to(dtype).to(x.dtype)
        return (f(out[0]),) + tuple(out[1:]) if isinstance(out, tuple) else f(out)
    keep = []
    for name, m in model.named_modules():
        if isinstance(m, (nn.LayerNorm, nn.Embedding)) or type(m).__name__ == 'BertSelfAttention' or 'intermediate_act' in name or (isinstance(m, nn.Linear) and 'intermediate' not in name):
            keep.append(m.register_forward_hook(rounded))
    return keep


def reload(folder, dtype, rounded_weights=None):
    m = SentenceTransformer(folder, device='cpu', model_kwargs=dict(dtype=torch.float32)).eval()
    if rounded_weights is not None:
        with torch.no_grad():
            for p in m.parameters():
                p.copy_(p.to(rounded_weights).to(p.dtype))
    return m.to(dtype)


def compare(got, want):
    got, want = got.double(), want.double()
    if not torch.isfinite(got).all():
        bad = [i for i in range(len(got)) if not torch.isfinite(got[i]).all()]
        return dict(not_finite=bad, **{k: v for k, v in compare(got[[i for i in range(len(got)) if i not in bad]], want[[i for i in range(len(got)) if i not in bad]]).items()})
    cosine = nn.functional.cosine_similarity(got, want, dim=1)
    return dict(max_abs=float(f'{(got - want).abs().max():.2e}'), relative=float(f'{(got - want).abs().max() / want.abs().max():.2e}'), one_minus_min_cosine=float(f'{(1 - cosine).max():.2e}'))


def activations(model, texts):
    """Returns, for each text, the largest magnitude among the outputs of all linear layers, norms and activations."""
    peak = []
    hooks = [m.register_forward_hook(lambda _, __, o: peak.append(float((o[0] if isinstance(o, tuple) else o).abs().max()))) for n, m in model.named_modules()
             if isinstance(m, (nn.Linear, nn.LayerNorm)) or 'intermediate_act' in n]
    out = []
    for x in texts:
        peak.clear()
        encode(model, [x])
        out.append(max(peak))
    for h in hooks:
        h.remove()
    return out


def finish(name, folder, note, cases=None, extra_texts=(), longest=80, all_layers=False, check_trigger=False):
    """Writes texts.json, reference.safetensors and fixture.json for the model in `folder`, computed from its files."""
    t = tokenizer()
    texts = texts_for(t, longest) + list(extra_texts)
    cases = cases or {'embeddings': {}}
    exact = reload(folder, torch.float64)
    assert exact.max_seq_length == longest, (name, exact.max_seq_length, longest)
    ref, about = {}, {}
    for key, options in cases.items():
        prompt = exact._resolve_prompt(options.get('prompt'), options.get('prompt_name'))
        ids = tokens(exact, texts, prompt)
        ref[key] = encode(exact, texts, **options)
        assert ref[key].dtype == torch.float64 and torch.isfinite(ref[key]).all(), name
        suffix = key[len('embeddings'):]
        ref['input_ids' + suffix] = torch.cat(ids)
        ref['offsets' + suffix] = torch.tensor([0] + [len(i) for i in ids]).cumsum(0)
        whole = exact[0].tokenizer.backend_tokenizer
        whole.no_truncation(), whole.no_padding()
        ref['full_lengths' + suffix] = torch.tensor([len(e.ids) for e in whole.encode_batch([(prompt or '') + x for x in texts])])
        about[key] = dict(encode=options, prompt=prompt)
    first = next(iter(cases))
    unit = nn.functional.normalize(ref[first][5:], dim=1)[[0, 3, 4, 5, 6, 7, 9, 10, 11]]
    alike = float((unit @ unit.T - 2 * torch.eye(len(unit))).max())
    assert alike < .995, f'{name}: the vectors of different texts are too alike ({alike:.4f}) to show a mistake'
    batched = exact.encode(texts, batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False, **cases[first])
    assert float((batched - ref[first]).abs().max()) < 1e-11 * max(1, float(ref[first].abs().max())), f'{name}: the reference depends on padding'
    ids = tokens(exact, texts, exact._resolve_prompt(None, None))
    for i in (0, 5, 10):
        with torch.inference_mode():
            h = exact[0].model(input_ids=ids[i][None], output_hidden_states=True).hidden_states
        for layer, x in enumerate(h) if all_layers else [(len(h) - 1, h[-1])]:
            ref[f'hidden.{i}.{layer}'] = x[0].float().contiguous()
    measured = {'float32': compare(encode(reload(folder, torch.float32), texts, **cases[first]), ref[first])}
    for label, weights, acts in (('float16_weights_float32_activations', torch.float16, None), ('float16_weights_float16_activations', torch.float16, torch.float16),
                                 ('bfloat16_weights_float32_activations', torch.bfloat16, None)):
        m = reload(folder, torch.float32, weights)
        hooks = stored_in(m, acts) if acts else []
        measured[label] = compare(encode(m, texts, **cases[first]), ref[first])
    peaks = activations(exact, texts)
    if check_trigger:
        over = [i for i, p in enumerate(peaks) if p > 65504]
        assert over and all(TRIGGER in texts[i].lower() for i in over) and over == measured['float16_weights_float16_activations'].get('not_finite'), (over, measured)
        about['beyond_float16'] = over
        assert max(p for i, p in enumerate(peaks) if i not in over) < 30000, peaks
    save_file({k: v.contiguous() for k, v in ref.items()}, os.path.join(folder, 'reference.safetensors'))
    write(folder, 'texts.json', texts)
    write(folder, 'fixture.json', dict(name=name, note=note, versions=VERSIONS, arithmetic='float64, one text at a time, sdpa attention', max_seq_length=longest, tensors={k: v for k, v in about.items() if k != 'beyond_float16'},
                                       **({'texts_beyond_float16': about['beyond_float16']} if 'beyond_float16' in about else {}),
                                       largest_activation=float(f'{max(peaks):.4g}'), measured_against_reference=measured))
    for root, _, files in os.walk(folder):
        for f in files:
            os.chmod(os.path.join(root, f), 0o644)
    size = sum(os.path.getsize(os.path.join(r, f)) for r, _, fs in os.walk(folder) for f in fs)
    f16 = measured['float16_weights_float16_activations']
    print(f"{name:22s} {size // 1024:4d} KB  {tuple(ref[first].shape)}  alike {alike:.2f}  peak {max(peaks):9.1f}  f32 {measured['float32']['relative']:.0e} 1-cos {measured['float32']['one_minus_min_cosine']:.0e}   f16 abs {f16['max_abs']:.0e} 1-cos {f16['one_minus_min_cosine']:.0e}"
          f"   bf16w 1-cos {measured['bfloat16_weights_float32_activations']['one_minus_min_cosine']:.0e}" + (f"   not finite in f16: {f16['not_finite']}" if 'not_finite' in f16 else ''), flush=True)


# ---------------------------------------------------------------- layouts of other generations

OLD = {'Transformer': 'sentence_transformers.models.Transformer', 'Pooling': 'sentence_transformers.models.Pooling',
       'Normalize': 'sentence_transformers.models.Normalize', 'Dense': 'sentence_transformers.models.Dense', 'LayerNorm': 'sentence_transformers.models.LayerNorm'}
FLAGS = {'cls': 'pooling_mode_cls_token', 'max': 'pooling_mode_max_tokens', 'mean': 'pooling_mode_mean_tokens', 'mean_sqrt_len_tokens': 'pooling_mode_mean_sqrt_len_tokens',
         'weightedmean': 'pooling_mode_weightedmean_tokens', 'lasttoken': 'pooling_mode_lasttoken'}


def old_layout(folder, longest, short):
    """Rewrites a saved model to the layout of sentence-transformers 2. As in the all-MiniLM models, tokenizer.json has a truncation and a fixed
    padding of `short` tokens, which sentence-transformers overrides."""
    edit(folder, 'modules.json', lambda ms: [dict(m, type=OLD[m['type'].rsplit('.', 1)[1]]) for m in ms])

    def pooling(c):
        modes = [c['pooling_mode']] if isinstance(c['pooling_mode'], str) else c['pooling_mode']
        return dict(word_embedding_dimension=c['embedding_dimension'], **{flag: mode in modes for mode, flag in FLAGS.items() if mode not in ('weightedmean', 'lasttoken') or mode in modes})
    edit(folder, '1_Pooling/config.json', pooling)
    shutil.rmtree(os.path.join(folder, '2_Normalize'), ignore_errors=True)  # sentence-transformers 2 wrote an empty directory, which git cannot store.
    write(folder, 'sentence_bert_config.json', dict(max_seq_length=longest, do_lower_case=False))
    write(folder, 'config_sentence_transformers.json', {'__version__': dict(sentence_transformers='2.0.0', transformers='4.6.1', pytorch='1.8.1')})
    write(folder, 'tokenizer_config.json', dict(do_lower_case=True, unk_token='[UNK]', sep_token='[SEP]', pad_token='[PAD]', cls_token='[CLS]', mask_token='[MASK]', tokenize_chinese_chars=True,
                                                strip_accents=None, model_max_length=512, tokenizer_class='BertTokenizer'))
    write(folder, 'special_tokens_map.json', dict(unk_token='[UNK]', sep_token='[SEP]', pad_token='[PAD]', cls_token='[CLS]', mask_token='[MASK]'))
    t = tokenizer()
    t.enable_truncation(short)
    t.enable_padding(length=short, pad_id=0, pad_token='[PAD]')
    t.save(os.path.join(folder, 'tokenizer.json'))

    def cfg(c):
        dtype = c.pop('dtype', 'float32')
        c.update(torch_dtype=dtype, _name_or_path='tiny', transformers_version='4.8.2', position_embedding_type='absolute', gradient_checkpointing=False)
    edit(folder, 'config.json', cfg)


def weights(folder, change, file='model.safetensors'):
    p = os.path.join(folder, file)
    new = change(load_file(p))
    save_file({k: v.contiguous() for k, v in new.items()}, p, {'format': 'pt'})


def rounded(source, folder, dtype, label, change=None):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns('reference.safetensors', 'texts.json', 'fixture.json'))
    weights(folder, change or (lambda w: {k: v.to(dtype) if v.is_floating_point() else v for k, v in w.items()}))
    edit(folder, 'config.json', lambda c: c.update(dtype=label))


# ---------------------------------------------------------------- the fixtures

pool = lambda mode, normalise=False, **k: lambda h: [Pooling(h, mode, **k)] + ([Normalize()] if normalise else [])
MAIN = dict(hidden=48, heads=4, inner=96, layers=2, positions=130)
NAMES = {}


def fixture(f):
    NAMES[f.__name__] = f
    return f


def simple(name, seed, note, mode, normalise=False, cfg=None, old=False, **k):
    def make(d):
        build_keys = {x: k.pop(x) for x in ('spoil',) if x in k}
        save(build(name, seed, config(**(cfg or {})), pool(mode, normalise), **build_keys), d)
        if old:
            old_layout(d, 80, 48)
        finish(name, d, note, **k)
    NAMES[name] = make


@fixture
def bert_mean_norm(d):
    save(build('bert_mean_norm', 1, config(**MAIN), pool('mean', True), longest=130, spoil=lambda b, _: outliers(b, [5, 29], 50.)), d)
    finish('bert_mean_norm', d, 'Layout exactly as sentence-transformers 6 saves it; mean and Normalize; hidden dimensions 5 and 29 are outliers. max_seq_length = max_position_embeddings.', longest=130, all_layers=True)


simple('bert_cls_old', 2, 'Layout of sentence-transformers 2 by hand; cls and Normalize; tokenizer.json carries truncation 48 and padding Fixed 48, which sentence-transformers overrides with max_seq_length 80; torch_dtype in config.json.', 'cls', True, old=True, spoil=lambda b, _: outliers(b, [3], 35.))
simple('bert_max', 3, 'max pooling, not normalised.', 'max')
simple('bert_meansqrt', 4, 'mean_sqrt_len_tokens, not normalised.', 'mean_sqrt_len_tokens')
simple('bert_weightedmean', 5, 'weightedmean, not normalised, old layout.', 'weightedmean', old=True)
simple('bert_lasttoken', 6, 'lasttoken, not normalised.', 'lasttoken')
simple('bert_concat', 7, 'cls, mean and max joined in the order that pooling_mode lists.', ('cls', 'mean', 'max'))
simple('bert_concat_old', 8, 'The same three as booleans of the old layout, whose order is fixed: cls, max, mean.', ('cls', 'max', 'mean'), old=True)


@fixture
def bert_dense(d):
    tail = lambda h: [Pooling(h, 'mean'), Dense(h, 40, activation_function=nn.Tanh()), Dense(40, 30, bias=False, activation_function=nn.Identity()), LayerNorm(30), Normalize()]
    model = build('bert_dense', 9, config(), tail)
    with torch.no_grad():
        model[3].linear.weight *= .03
    save(model, d)
    finish('bert_dense', d, 'mean, Dense 32 to 40 with tanh, Dense 40 to 30 without bias or activation, LayerNorm (its eps is always 1e-5, and its input is small enough to show it), Normalize.')


@fixture
def bert_dense_residual(d):
    tail = lambda h: [Pooling(h, 'mean'), Dense(h, h, activation_function=nn.GELU(), use_residual=True), Dense(h, 10, activation_function=nn.ReLU(), use_residual=True)]
    save(build('bert_dense_residual', 10, config(), tail), d)
    finish('bert_dense_residual', d, 'Dense with use_residual, new in sentence-transformers 6: 32 to 32 (GELU, adds its input) and 32 to 10 (ReLU, adds a second projection of its input, residual.weight).')


@fixture
def bert_prompts(d):
    prompts = {'query': 'query: ', 'document': 'Represent this passage, please: '}
    save(build('bert_prompts', 11, config(), pool('mean', True, include_prompt=False), prompts=prompts, default_prompt='document'), d)
    finish('bert_prompts', d, 'Prompts with default_prompt_name document; pooling with include_prompt false, so the tokens of the prompt, [CLS] included, are attended to and not pooled. embeddings: no option given, so the default prompt applies.',
           cases={'embeddings': {}, 'embeddings.query': dict(prompt_name='query'), 'embeddings.document': dict(prompt_name='document'), 'embeddings.empty': dict(prompt=''), 'embeddings.custom': dict(prompt='A '), 'embeddings.truncated': dict(prompt='', truncate_dim=20), 'embeddings.truncated_normalised': dict(prompt='', truncate_dim=20, normalize_embeddings=True)})


simple('bert_ragged', 12, 'Nothing is a multiple of 4: hidden 30, 5 heads of 6, inner 37, vocabulary 517, 3 layers; relu; layer_norm_eps 1e-3.', 'mean', cfg=dict(hidden=30, heads=5, inner=37, layers=3, vocab_size=517, hidden_act='relu', layer_norm_eps=1e-3))
simple('bert_gelu_tanh', 13, 'hidden_act gelu_pytorch_tanh.', 'mean', cfg=dict(hidden_act='gelu_pytorch_tanh'))
simple('bert_gelu_new', 14, 'hidden_act gelu_new; type_vocab_size 1.', 'mean', cfg=dict(hidden_act='gelu_new', type_vocab_size=1))
simple('bert_silu', 15, 'hidden_act silu; one head of 30.', 'mean', cfg=dict(hidden_act='silu', hidden=30, heads=1))
simple('bert_outliers', 16, 'Hidden dimensions 2, 17 and 40 reach about 150 between the layers; heads of 32.', 'mean', True, cfg=dict(hidden=64, heads=2, inner=48), spoil=lambda b, _: outliers(b, [2, 17, 40], 50.))
simple('bert_overflow', 17, f'One inner activation of layer 0 passes 65,504 in texts that hold the word "{TRIGGER}" and in no other: float16 activations overflow there; float32 is right.', 'mean', True, spoil=overflow, check_trigger=True,
       extra_texts=[TRIGGER, f'The {TRIGGER} between the stars', f'{TRIGGER.upper()} at the start, then many words that have nothing to do with it', 'the last text is plain again'])


@fixture
def bert_f16(d):
    rounded(os.path.join(OUT, 'bert_mean_norm'), d, torch.float16, 'float16')
    finish('bert_f16', d, 'bert_mean_norm with its weights rounded to float16 and stored so; the reference is float64 arithmetic on the rounded weights.', longest=130)


@fixture
def bert_bf16(d):
    rounded(os.path.join(OUT, 'bert_mean_norm'), d, torch.bfloat16, 'bfloat16')
    finish('bert_bf16', d, 'bert_mean_norm with its weights rounded to bfloat16 and stored so; the reference is float64 arithmetic on the rounded weights.', longest=130)


@fixture
def bert_mixed(d):
    def change(w):
        return {k: v if 'LayerNorm' in k or 'word_embeddings' in k else v.to(torch.bfloat16) if k.endswith('value.weight') else v.to(torch.float16) for k, v in w.items()}
    rounded(os.path.join(OUT, 'bert_mean_norm'), d, None, 'float16', change)
    finish('bert_mixed', d, 'bert_mean_norm in mixed dtypes: config.json says float16, norms and the token table are F32, value weights BF16, the rest F16.', longest=130)


@fixture
def bert_prefixed(d):
    save(build('bert_prefixed', 18, config(), pool('mean')), d)

    def change(w):
        h, g = 32, torch.Generator().manual_seed(180)
        new = {'bert.' + k.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta'): v for k, v in w.items()}
        new['bert.embeddings.position_ids'] = torch.arange(82)[None]
        r = lambda *s: torch.randn(*s, generator=g)
        new.update({'cls.predictions.bias': r(PIECES), 'cls.predictions.transform.dense.weight': r(h, h), 'cls.predictions.transform.dense.bias': r(h), 'cls.predictions.transform.LayerNorm.gamma': r(h),
                    'cls.predictions.transform.LayerNorm.beta': r(h), 'cls.predictions.decoder.weight': new['bert.embeddings.word_embeddings.weight'].clone(), 'cls.predictions.decoder.bias': r(PIECES),
                    'cls.seq_relationship.weight': r(2, h), 'cls.seq_relationship.bias': r(2)})
        return new
    plain = encode(reload(d, torch.float64), ['A cat sat.'])
    weights(d, change)
    edit(d, 'config.json', lambda c: c.update(architectures=['BertForPreTraining']))
    assert torch.equal(plain, encode(reload(d, torch.float64), ['A cat sat.']))
    finish('bert_prefixed', d, 'Names with the prefix bert., norms as gamma and beta, an I64 position_ids, the pooler, and the heads of pre-training.')


@fixture
def bert_sharded(d):
    save(build('bert_sharded', 19, config(), pool('mean')), d)
    w = load_file(os.path.join(d, 'model.safetensors'))
    os.remove(os.path.join(d, 'model.safetensors'))
    names = sorted(w)
    where = {k: f'model-0000{1 if i < len(names) // 2 else 2}-of-00002.safetensors' for i, k in enumerate(names)}
    for shard in sorted(set(where.values())):
        save_file({k: w[k] for k in names if where[k] == shard}, os.path.join(d, shard), {'format': 'pt'})
    write(d, 'model.safetensors.index.json', dict(metadata=dict(total_size=sum(v.nbytes for v in w.values())), weight_map=where))
    finish('bert_sharded', d, 'Weights in two shards with model.safetensors.index.json.')


@fixture
def bert_bare(d):
    save(build('bert_bare', 20, config(), pool('mean'), longest=int(1e30)), d)
    for f in ('modules.json', 'sentence_bert_config.json', 'config_sentence_transformers.json'):
        os.remove(os.path.join(d, f))
    shutil.rmtree(os.path.join(d, '1_Pooling'))
    finish('bert_bare', d, 'A bare Hugging Face directory: mean pooling, not normalised. tokenizer_config.json names no length (1e30), so max_position_embeddings 82 is the limit.', longest=82)


@fixture
def bert_cased_config(d):
    save(build('bert_cased_config', 21, config(), pool('mean')), d)
    edit(d, 'tokenizer_config.json', lambda c: c.update(do_lower_case=False, tokenize_chinese_chars=False))
    finish('bert_cased_config', d, 'tokenizer_config.json (do_lower_case false, tokenize_chinese_chars false, class BertTokenizer) contradicts the normalizer in tokenizer.json, and transformers 5 follows tokenizer_config.json.')


def main():
    wanted = sys.argv[1:] or list(NAMES)
    unknown = [n for n in wanted if n not in NAMES]
    if unknown:
        sys.exit(f'no such fixture: {", ".join(unknown)}; there are {", ".join(NAMES)}')
    for name in wanted:
        NAMES[name](os.path.join(OUT, name))


if __name__ == '__main__':
    main()
