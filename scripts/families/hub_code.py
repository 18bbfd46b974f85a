"""Encoders whose code is on the Hub and not in transformers, implemented in torch: NomicBERT with the options and experts that transformers lacks,
`new` of Alibaba with NTK scaling, and jina-embeddings-v2. Tensors have the names on the Hub, and `publish` writes the config.json of the Hub."""
import json, math, os, shutil, tempfile
import torch, transformers
from safetensors.torch import load_file
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

import family_tokenizers as tokenizers
import make_fixtures as base
from family_fixtures import PIECES, SIZES, family, pool, post_norm_outliers

NOMIC = dict(norm='emb_ln', layer='encoder.layers', qkv=('attn.Wqkv',), out='attn.out_proj', norm1='norm1', up=('mlp.fc11', 'mlp.fc12'), down='mlp.fc2', norm2='norm2')
NOMIC_MOE = dict(NOMIC, up=('mlp.fc1',))
NEW = dict(norm='embeddings.LayerNorm', layer='encoder.layer', qkv=('attention.qkv_proj',), out='attention.o_proj', norm1='attn_ln', up=('mlp.up_gate_proj',), down='mlp.down_proj', norm2='mlp_ln')
JINA = dict(norm='embeddings.LayerNorm', layer='encoder.layer', qkv=('attention.self.query', 'attention.self.key', 'attention.self.value'), out='attention.output.dense',
            norm1='attention.output.LayerNorm', up=('mlp.gated_layers',), down='mlp.wo', norm2='mlp.layernorm')
JINA_CODE = dict(JINA, up=('mlp.up_gated_layer',), down='mlp.down_layer', norm2='layer_norm_2', normq='attention.self.layer_norm_q', normk='attention.self.layer_norm_k', normx='layer_norm_1')


class HubConfig(transformers.PreTrainedConfig):
    model_type = 'vectile_hub_code'

    def __init__(self, **options):
        super().__init__(**options)


class Experts(nn.Module):
    """A mixture of experts. Each token uses the `top` experts with the largest values of a softmax over all experts; these values are not divided by their
    sum. Each of the two matrices holds all experts one after the other, [experts * inner, hidden]. Only the first is applied transposed."""

    def __init__(self, hidden, inner, count, top):
        super().__init__()
        self.count, self.top = count, top
        self.router = nn.Module()
        self.router.layer = nn.Linear(hidden, count, bias=False)
        self.experts = nn.Module()
        self.experts.mlp = nn.Module()
        self.experts.mlp.w1 = nn.Parameter(torch.zeros(count * inner, hidden))
        self.experts.mlp.w2 = nn.Parameter(torch.zeros(count * inner, hidden))
        self.experts.bias = nn.Parameter(torch.zeros(hidden))

    def forward(self, x):
        logits = self.router.layer(x)
        weights, chosen = logits.softmax(-1).topk(self.top, -1)
        counted = torch.zeros_like(logits).scatter(-1, chosen, weights)
        split = lambda w: w.view(self.count, -1, w.shape[-1])
        every = nn.functional.gelu(torch.einsum('bth,efh->btef', x, split(self.experts.mlp.w1)))
        return torch.einsum('btef,efh,bte->bth', every, split(self.experts.mlp.w2), counted) + self.experts.bias


class HubEncoder(transformers.PreTrainedModel):
    config_class = HubConfig

    def __init__(self, config):
        super().__init__(config)
        c = config
        h, n = c.hidden_size, c.names
        linear = lambda i, o, kind: nn.Linear(i, o, bias=kind in c.biases)
        norm = lambda: nn.LayerNorm(h, eps=c.layer_norm_eps)
        self.put('embeddings.word_embeddings', nn.Embedding(c.vocab_size, h))
        if c.type_vocab_size:
            self.put('embeddings.token_type_embeddings', nn.Embedding(c.type_vocab_size, h))
        self.put(n['norm'], norm())
        for i in range(c.num_hidden_layers):
            put = lambda name, m: self.put(f"{n['layer']}.{i}.{name}", m)
            for name in n['qkv']:
                put(name, linear(h, 3 * h // len(n['qkv']), 'qkv'))
            put(n['out'], linear(h, h, 'out'))
            if c.experts and i % c.experts['every'] == 1:
                put('mlp', Experts(h, c.intermediate_size, c.experts['count'], c.experts['top']))
            else:
                for name in n['up']:
                    put(name, linear(h, (2 if c.gated else 1) * c.intermediate_size // len(n['up']), 'up'))
                put(n['down'], linear(c.intermediate_size, h, 'down'))
            for name in ('norm1', 'norm2', 'normq', 'normk', 'normx'):
                if name in n:
                    put(n[name], norm())
        self.post_init()

    def put(self, name, module):
        *path, last = name.split('.')
        at = self
        for part in path:
            if part not in at._modules:
                at.add_module(part, nn.Module())
            at = at._modules[part]
        at.add_module(last, module)

    def angles(self, tokens):
        r = self.config.rotary
        d, base, factor = r['dims'], r['base'], r.get('factor')
        if r.get('kind') == 'dynamic' and tokens > r['trained']:
            base = base * (factor * tokens / r['trained'] - (factor - 1)) ** (d / (d - 2))
        if r.get('kind') == 'ntk' and 'mixed_b' not in r:
            base = base * factor
        inverse = 1. / (base ** (torch.arange(0, d, 2).float() / d))
        if r.get('kind') == 'ntk':
            if 'mixed_b' in r:
                a = torch.tensor(factor).log() / (d / 2) ** r['mixed_b']
                inverse = inverse / (a * torch.arange(1, d // 2 + 1).float() ** r['mixed_b']).exp()
            else:
                inverse = inverse / factor ** (2 / d)
        return torch.outer(torch.arange(tokens).float(), inverse)

    def turn(self, x):
        r = self.config.rotary
        d, angles = r['dims'], self.angles(x.shape[2])
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        a, b = (x[..., :d:2], x[..., 1:d:2]) if r.get('interleaved') else (x[..., :d // 2], x[..., d // 2:d])
        a, b = a * cos - b * sin, b * cos + a * sin
        turned = torch.stack((a, b), -1).flatten(-2) if r.get('interleaved') else torch.cat((a, b), -1)
        return torch.cat((turned, x[..., d:]), -1)

    def bias(self, tokens, dtype):
        n = self.config.num_attention_heads
        power = lambda m: [2 ** (-8 * (i + 1) / m) for i in range(m)]
        below = 2 ** math.floor(math.log2(n))
        slopes = torch.tensor(power(below) + power(2 * below)[::2][:n - below]).to(dtype)
        at = torch.arange(tokens)
        return -slopes[:, None, None] * (at[:, None] - at[None]).abs().to(dtype)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, **_):
        c, n = self.config, self.config.names
        get = self.get_submodule
        x = get('embeddings.word_embeddings')(input_ids)
        if c.type_vocab_size:
            x = x + get('embeddings.token_type_embeddings')(torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids)
        x = get(n['norm'])(x)
        batch, tokens, h = x.shape
        seen = torch.zeros(batch, 1, 1, tokens, dtype=x.dtype)
        if attention_mask is not None:
            seen = seen.masked_fill(attention_mask[:, None, None] == 0, -torch.inf)
        if c.rotary is None:
            seen = seen + self.bias(tokens, x.dtype)
        heads = lambda y: y.view(batch, tokens, c.num_attention_heads, -1).transpose(1, 2)
        gelu = {'gelu': nn.functional.gelu, 'relu': nn.functional.relu, 'silu': nn.functional.silu}[c.gate_act]
        for i in range(c.num_hidden_layers):
            m = lambda name: get(f"{n['layer']}.{i}.{name}")
            parts = torch.cat([m(name)(x) for name in n['qkv']], -1)
            q, k, v = parts.split(h, -1)
            if 'normq' in n:
                q, k = m(n['normq'])(q), m(n['normk'])(k)
            q, k, v = heads(q), heads(k), heads(v)
            if c.rotary is not None:
                q, k = self.turn(q), self.turn(k)
            p = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + seen).softmax(-1)
            y = m(n['norm1'])(m(n['out'])((p @ v).transpose(1, 2).reshape(batch, tokens, h)) + x)
            x = m(n['normx'])(x + y) if 'normx' in n else y
            if isinstance(m('mlp'), Experts):
                x = m(n['norm2'])(m('mlp')(x) + x)
                continue
            inner = torch.cat([m(name)(x) for name in n['up']], -1)
            if c.gated:
                first, second = inner.chunk(2, -1)
                gate, up = (first, second) if c.gate_first else (second, first)
                inner = gelu(gate) * up
            else:
                inner = gelu(inner)
            x = m(n['norm2'])(m(n['down'])(inner) + x)
        return BaseModelOutput(last_hidden_state=x)


transformers.AutoConfig.register('vectile_hub_code', HubConfig)
transformers.AutoModel.register(HubConfig, HubEncoder)
SHOWN_BY_TRANSFORMERS = ('architectures', 'dtype', 'transformers_version')


def encoder(names, **options):
    defaults = dict(type_vocab_size=2, layer_norm_eps=1e-12, biases=['qkv', 'out', 'down'], rotary=None, gated=True, gate_first=False, gate_act='gelu', experts=None, pad_token_id=0)
    return HubEncoder(HubConfig(**{**SIZES, **defaults, **options}, names=names))


def published(**fields):
    """Writes config.json as on the Hub: the fields that transformers writes for any model, and these fields."""
    def change(config):
        kept = {k: config[k] for k in SHOWN_BY_TRANSFORMERS if k in config}
        config.clear()
        config.update(fields, **kept)
    return lambda folder: base.edit(folder, 'config.json', change)


def bert_names(**fields):
    return {**SIZES, 'type_vocab_size': 2, 'layer_norm_eps': 1e-12, 'hidden_act': 'gelu', 'pad_token_id': 0, **fields}


def nomic_names(**fields):
    code = 'nomic-ai/nomic-bert-2048--'
    return dict(auto_map={'AutoConfig': code + 'configuration_hf_nomic_bert.NomicBertConfig', 'AutoModel': code + 'modeling_hf_nomic_bert.NomicBertModel', 'AutoModelForMaskedLM': code + 'modeling_hf_nomic_bert.NomicBertForPreTraining'},
                model_type='nomic_bert', activation_function='swiglu', causal=False, layer_norm_epsilon=1e-12, n_embd=32, n_head=4, n_inner=64, n_layer=2, n_positions=82, vocab_size=576, type_vocab_size=2, pad_vocab_size_multiple=64,
                parallel_block=False, parallel_block_tied_norm=False, prenorm=False, use_rms_norm=False, rotary_emb_scale_base=None, **fields)


@family(tokenizers.word_piece(), pool('mean'), spoil=post_norm_outliers, edges=(39, 40, 41, 47, 48, 49), alone=True,
        publish=published(**nomic_names(qkv_proj_bias=False, mlp_fc1_bias=False, mlp_fc2_bias=False, rotary_emb_base=1000, rotary_emb_fraction=1.0, rotary_emb_interleaved=False, rotary_scaling_factor=2, max_trained_positions=40)))
def nomic_bert_hub():
    """nomic-embed-text as on the Hub: config fields with other names, a vocabulary padded to a multiple of 64, and dynamic NTK scaling for texts
    longer than 40 tokens."""
    return encoder(NOMIC, vocab_size=576, biases=[], rotary=dict(dims=8, base=1000, kind='dynamic', factor=2, trained=40), gate_act='silu')


@family(tokenizers.word_piece(), pool('mean'), spoil=post_norm_outliers,
        publish=published(**{**nomic_names(qkv_proj_bias=True, mlp_fc1_bias=True, mlp_fc2_bias=True, rotary_emb_base=10000, rotary_emb_fraction=0.5, rotary_emb_interleaved=True, rotary_scaling_factor=None, max_trained_positions=2048),
                             'activation_function': 'geglu', 'n_embd': 36, 'n_head': 3, 'n_inner': 45, 'layer_norm_epsilon': 1e-5}))
def nomic_bert_partial():
    """NomicBERT with options of the Hub's code that no published model uses: half of each head is rotated, rotary pairs are neighbours, biases,
    GEGLU. The inner width is not a multiple of 4."""
    return encoder(NOMIC, vocab_size=576, hidden_size=36, num_attention_heads=3, intermediate_size=45, biases=['qkv', 'out', 'up', 'down'], layer_norm_eps=1e-5, rotary=dict(dims=6, base=10000, interleaved=True))


EXPERTS = dict(count=5, top=2, every=2)
CLASSES = range(8, 13)  # the dimensions that determine the experts of a token


def routed_outliers(model, ids):
    """Sets the routers so that, as in trained models, the differences between experts exceed rounding errors by far. The sizes of five dimensions, to
    which the layers add little, determine the first and the second expert of a token."""
    g = torch.Generator().manual_seed(3)
    dims, size = list(CLASSES), 2.
    orders = torch.stack([torch.randperm(len(dims), generator=g) for _ in range(model.config.vocab_size)])
    heights = torch.tensor([1.8, .6, -.7, -.8, -.9]) * size
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith('word_embeddings.weight'):
                p[:, dims] = torch.zeros(len(p), len(dims)).scatter(1, orders, heights.expand(len(p), -1)) + .1 * p[:, dims]
            elif name.endswith('token_type_embeddings.weight'):
                p[:, dims] *= .1
            elif name.endswith('router.layer.weight'):
                p *= .05
                p[:, dims] += torch.eye(len(dims)).roll(int(name.split('.')[2]), 0)
            elif name.endswith(('out_proj.weight', 'fc2.weight')):
                p[dims] *= .02
            elif name.endswith('w2'):
                p[:, dims] *= .02
            elif name.endswith(('out_proj.bias', 'fc2.bias', 'experts.bias')):
                p[dims] = 0.
            elif name.endswith('w1'):
                p[:, [5, 19]] /= 8.
    post_norm_outliers(model, ids, dims=(5, 19), gain=8.)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.LayerNorm):  # Then a norm subtracts the same value from all of these dimensions.
                m.weight[dims], m.bias[dims] = m.weight[dims].mean(), m.bias[dims].mean()


def published_experts(folder):
    """Checks that no token of the texts is near a tie of experts, and that every expert is used. Then writes config.json as on the Hub."""
    model = base.reload(folder, torch.float64)
    with open(os.path.join(folder, 'texts.json'), encoding='utf-8') as f:
        texts = json.load(f)
    seen, hooks = {}, []
    for name, m in model[0].model.named_modules():
        if isinstance(m, Experts):
            hooks.append(m.router.layer.register_forward_hook(lambda _, i, o, name=name: seen.setdefault(name, []).append(o.flatten(0, -2))))
    base.encode(model, texts)
    for h in hooks:
        h.remove()
    for name, logits in seen.items():
        logits = torch.cat(logits)
        largest, chosen = logits.topk(EXPERTS['top'] + 1, -1)
        gap = float(((largest[:, -2] - largest[:, -1]) / (logits.amax(-1) - logits.amin(-1))).min())
        counts = chosen[:, :-1].flatten().bincount(minlength=EXPERTS['count']).tolist()
        print(f'{name}: the second expert is {gap:.3f} of the range of logits before the third in the closest of {len(logits)} tokens; tokens of each {counts}')
        assert gap > .1 and min(counts) > 0, (gap, counts)
    published(**{**nomic_names(qkv_proj_bias=True, mlp_fc1_bias=True, mlp_fc2_bias=True, rotary_emb_base=10000, rotary_emb_fraction=1.0, rotary_emb_interleaved=False, rotary_scaling_factor=None, max_trained_positions=2048),
                 'activation_function': 'gelu', 'n_embd': 24, 'n_head': 3, 'n_inner': 18, 'n_layer': 4, 'layer_norm_epsilon': 1e-5, 'type_vocab_size': 1, 'pad_token_id': 1,
                 'num_experts': EXPERTS['count'], 'moe_top_k': EXPERTS['top'], 'moe_every_n_layers': EXPERTS['every'], 'moe_impl': 'megablocks', 'moe_normalize_expert_weights': False,
                 'moe_resid_pdrop': 0.0, 'num_shared_experts': 0, 'expert_choice_router': False, 'ffn_div': 1, 'add_pooling_layer': False})(folder)


@family(tokenizers.unigram(), pool('mean', normalise=True), spoil=routed_outliers, publish=published_experts,
        prompts={'query': 'search_query: ', 'passage': 'search_document: '}, cases={'embeddings': {}, 'embeddings.query': {'prompt_name': 'query'}})
def nomic_moe():
    """nomic-embed-text-v2-moe as on the Hub: experts in every second layer, of which each token uses two of five with unscaled softmax weights; GELU
    without gates; biases."""
    return encoder(NOMIC_MOE, vocab_size=576, hidden_size=24, num_attention_heads=3, intermediate_size=18, num_hidden_layers=4, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5,
                   biases=['qkv', 'out', 'up', 'down'], gated=False, experts=EXPERTS, rotary=dict(dims=8, base=10000))


ALIBABA = {'AutoConfig': 'Alibaba-NLP/new-impl--configuration.NewConfig', 'AutoModel': 'Alibaba-NLP/new-impl--modeling.NewModel', 'AutoModelForMaskedLM': 'Alibaba-NLP/new-impl--modeling.NewForMaskedLM'}
NEW_FIELDS = dict(model_type='new', auto_map=ALIBABA, position_embedding_type='rope', layer_norm_type='layer_norm', logn_attention_scale=False, logn_attention_clip1=False, use_memory_efficient_attention=False, unpad_inputs=False)


@family(tokenizers.word_piece(), pool('cls', normalise=True), spoil=post_norm_outliers,
        publish=published(**bert_names(**NEW_FIELDS, rope_theta=500000, rope_scaling={'factor': 2.0, 'type': 'ntk'}, pack_qkv=True)))
def gte_en():
    """gte-large-en-v1.5 as on the Hub: NTK scaling by a factor, token types, cls pooling."""
    return encoder(NEW, rotary=dict(dims=8, base=500000, kind='ntk', factor=2.))


@family(tokenizers.unigram(), pool('cls', normalise=True), spoil=post_norm_outliers,
        publish=published(**bert_names(**NEW_FIELDS, type_vocab_size=1, pad_token_id=1, rope_theta=20000, rope_scaling={'factor': 8.0, 'type': 'ntk', 'mixed_b': 0.625}, pack_qkv=False)))
def gte_mixed():
    """GTE with options of the Hub's code that few models use: NTK scaling with a larger factor for longer wavelengths, and separate tensors for
    queries, keys and values."""
    names = dict(NEW, qkv=('attention.q_proj', 'attention.k_proj', 'attention.v_proj'))
    return encoder(names, type_vocab_size=1, pad_token_id=1, rotary=dict(dims=8, base=20000, kind='ntk', factor=8., mixed_b=.625))


def jina_map(code):
    return {'AutoConfig': f'{code}--configuration_bert.JinaBertConfig', 'AutoModel': f'{code}--modeling_bert.JinaBertModel', 'AutoModelForMaskedLM': f'{code}--modeling_bert.JinaBertForMaskedLM'}


JINA_FIELDS = dict(model_type='bert', position_embedding_type='alibi', emb_pooler='mean', attention_probs_dropout_prob=0.0)


@family(tokenizers.word_piece(), pool('mean'), spoil=post_norm_outliers, dtype='float16',
        publish=published(**bert_names(**JINA_FIELDS, hidden_size=36, num_attention_heads=6, auto_map=jina_map('jinaai/jina-bert-implementation'), feed_forward_type='geglu')))
def jina_v2():
    """jina-embeddings-v2 as on the Hub: ALiBi with a number of heads that is not a power of two, GEGLU, weights in float16."""
    return encoder(JINA, gate_first=True, hidden_size=36, num_attention_heads=6)


@family(tokenizers.word_piece(), pool('mean'), spoil=post_norm_outliers,
        publish=published(**bert_names(**JINA_FIELDS, auto_map=jina_map('jinaai/jina-bert-implementation'), feed_forward_type='reglu')))
def jina_v2_reglu():
    """jina-embeddings-v2 with ReGLU and four heads."""
    return encoder(JINA, gate_first=True, gate_act='relu')


@family(tokenizers.byte_bpe(), pool('mean'), spoil=lambda model, ids: post_norm_outliers(model, ids, gain=4.),
        publish=published(**bert_names(**JINA_FIELDS, pad_token_id=1, auto_map=jina_map('jinaai/jina-bert-v2-qk-post-norm'), feed_forward_type='geglu')))
def jina_v2_code():
    """jina-embeddings-v2-base-code: queries and keys are normed, two norms follow attention, and the gate comes second."""
    return encoder(JINA_CODE, pad_token_id=1)


TASKS = ['retrieval.query', 'retrieval.passage', 'text-matching']
RANK, ALPHA = 3, 2
FLASH = 'jinaai/xlm-roberta-flash-implementation--'


def with_adapters(folder):
    """Gives every linear layer and table a LoRA for each task, with the names of modeling_lora.py. Returns the model's outputs with the LoRA of each task
    added to the weights."""
    g = torch.Generator().manual_seed(7)
    stored, weights = {}, load_file(os.path.join(folder, 'model.safetensors'))
    adapted = [dict(weights) for _ in TASKS]
    for name, w in weights.items():
        if w.dim() < 2:
            stored['roberta.' + name] = w
            continue
        table = 'embeddings' in name
        shapes = ((w.shape[0], RANK), (RANK, w.shape[1])) if table else ((RANK, w.shape[1]), (w.shape[0], RANK))
        a, b = (torch.randn(len(TASKS), *shape, generator=g) * .6 * float(w.std()) ** .5 for shape in shapes)
        where = 'roberta.' + name.removesuffix('weight') + 'parametrizations.weight.'
        stored.update({where + 'original': w, where + '0.lora_A': a, where + '0.lora_B': b})
        for i, new in enumerate(adapted):
            new[name] = w + (a[i] @ b[i] if table else b[i] @ a[i]) * (ALPHA / RANK)
    with open(os.path.join(folder, 'texts.json'), encoding='utf-8') as f:
        texts = json.load(f)
    vectors = {}
    for task, new in zip(TASKS, adapted):
        with tempfile.TemporaryDirectory() as d:
            shutil.copytree(folder, d, dirs_exist_ok=True)
            base.weights(d, lambda _: new)
            vectors['tasks.' + task] = base.encode(base.reload(d, torch.float64), texts)
    base.weights(folder, lambda _: stored)
    published(model_type='xlm-roberta', **{**SIZES, 'position_embedding_type': 'rotary', 'rotary_emb_base': 20000.0, 'hidden_act': 'gelu', 'type_vocab_size': 1, 'layer_norm_eps': 1e-5, 'pad_token_id': 1},
              auto_map={'AutoConfig': FLASH + 'configuration_xlm_roberta.XLMRobertaFlashConfig', 'AutoModel': FLASH + 'modeling_lora.XLMRobertaLoRA', 'AutoModelForMaskedLM': FLASH + 'modeling_xlm_roberta.XLMRobertaForMaskedLM'},
              lora_adaptations=TASKS, lora_rank=RANK, lora_alpha=ALPHA, lora_dropout_p=0.0, lora_main_params_trainable=False, load_trained_adapters=True, emb_pooler='mean', use_flash_attn=True)(folder)
    base.edit(folder, 'modules.json', lambda modules: [dict(modules[0], type='custom_st.Transformer')] + modules[1:])
    return vectors


@family(tokenizers.unigram(), pool('mean', normalise=True), spoil=post_norm_outliers, publish=with_adapters)
def jina_v3_hub():
    """jina-embeddings-v3 as on the Hub: a LoRA for each task, and a Python module of the model. The tensors tasks.<task> are vectors with the LoRA of
    the task."""
    return transformers.JinaEmbeddingsV3Model(transformers.JinaEmbeddingsV3Config(**SIZES, pad_token_id=1), add_pooling_layer=False)
