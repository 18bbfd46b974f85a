#!/usr/bin/env python3
"""Makes tests/fixtures/families/*: a tiny model of every architecture, and its vectors from sentence-transformers.

    .fixtures/bin/python scripts/family_fixtures.py [NAME ...]      (the environment of make_fixtures.py)

To add a family, write a function in any file of scripts/families/. The function returns a transformers model. Its decorator
sets the tokenizer, the modules and other settings. Its docstring becomes the note in fixture.json, and its name the name of the directory.

    @family(tokenizers.word_piece(), pool('mean', normalise=True), spoil=post_norm_outliers)
    def electra():
        '''Rows of the token table are narrower than the layers: embeddings_project.'''
        return transformers.ElectraModel(transformers.ElectraConfig(**SIZES, embedding_size=24))

Weights are random and reproducible. Biases are not near 0 and norms are not near 1, so that ignoring a parameter changes vectors.
Each directory is a model that SentenceTransformer() loads, and has these files:
    texts.json              the texts, a JSON list
    reference.safetensors   embeddings [texts, width] F64, computed one text at a time, and embeddings.<case> for each case. The first of them
                            also with .float16 and .bfloat16, F32: float64 arithmetic on matrices and tables rounded to that dtype.
                            input_ids [tokens] I64 of all texts, with offsets [texts + 1] I64. full_lengths [texts] I64: token counts
                            before truncation. hidden.<text> [tokens, width] F32: the last hidden states of a few texts
    fixture.json            the family, how each tensor was made, and the errors of torch measured in other arithmetic
tests/golden/families.rs tests every directory it finds.
"""
import importlib.util, json, math, os, shutil, sys, tempfile, zlib
import torch, transformers
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import make_fixtures as base

OUT = os.path.join(base.OUT, 'families')
PIECES = base.PIECES
LONGEST = 80
# Small sizes. There are positions for LONGEST tokens and for the first positions that some families skip.
SIZES = dict(vocab_size=PIECES, hidden_size=32, num_attention_heads=4, intermediate_size=64, num_hidden_layers=2, max_position_embeddings=LONGEST + 2)
SHOWN = (0, 5, 10)  # the texts whose hidden states are stored
FAMILIES = {}


def family(tokenizer, modules, longest=LONGEST, random=True, spoil=None, dtype=None, rewrite=None, prompts=None, default_prompt=None, cases=None, extra_texts=(), edges=(), publish=None, alone=False):
    """Registers a recipe, which returns a transformers model, or a module of sentence-transformers if `tokenizer` is None. `tokenizer()` returns a transformers tokenizer, and
    `modules(hidden)` returns the modules after the transformer. If `random` is False, the recipe's own weights are used. `spoil(model, ids)` makes outliers. `dtype` is the dtype of the
    stored checkpoint. `rewrite(folder)` changes the saved directory (names of tensors, another layout) and must not change vectors. `cases` are the arguments of encode() by name of the
    tensor, as in make_fixtures.py. `edges` are further lengths of texts, around a window. `publish(folder)` changes the directory after all vectors are computed: config.json of a model
    whose code is on the Hub names this code, and scripts/families has a new implementation. `publish` may return more tensors for reference.safetensors. `alone` says that in the upstream
    library, a text's vector depends on the longest text in its batch."""
    def register(make):
        FAMILIES[make.__name__] = dict(make=make, tokenizer=tokenizer, modules=modules, longest=longest, random=random, spoil=spoil, dtype=dtype, rewrite=rewrite,
                                       prompts=prompts, default_prompt=default_prompt, cases=cases or {'embeddings': {}}, extra_texts=extra_texts, edges=edges, publish=publish, alone=alone)
        return make
    return register


def whole(make):
    """Registers a function that takes a name and a folder and writes the complete directory, for models that sentence-transformers does not load."""
    FAMILIES[make.__name__] = dict(whole=make)
    return make


def pool(mode, normalise=False, *more, **options):
    return lambda hidden: [Pooling(hidden, mode, **options)] + [m(hidden) for m in more] + ([Normalize()] if normalise else [])


# ---------------------------------------------------------------- weights

def randomise(module, seed):
    """Randomises the parameters, so that biases are not near 0, norms are not near 1, and activations are near 1. Norms whose class adds 1 stay around 0."""
    g = torch.Generator().manual_seed(seed)
    tables = {id(m.weight) for m in module.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    with torch.no_grad():
        for name, p in sorted(module.named_parameters()):
            r = torch.randn(p.shape, generator=g)
            if name.endswith('bias'):
                p.copy_(.1 * r)
            elif p.dim() == 1:
                p.copy_((1. if p.abs().mean() > .5 else 0.) + .2 * r)
            elif id(p) in tables:
                p.copy_(.5 * r)
            else:
                p.copy_(r * 1.2 / math.sqrt(p.shape[-1]))


def watch(model, ids):
    """Returns the norms over the hidden states with their outputs, in the order of the forward pass, and the linear layers that read such an output."""
    hidden, kept, norms, readers = model.config.hidden_size, [], [], []

    def note(m, i, o):
        kept.append(o)
        if 'Norm' in type(m).__name__ and getattr(m, 'weight', None) is not None and m.weight.numel() == hidden:
            norms.append((m, o))
        elif isinstance(m, nn.Linear) and any(i[0].data_ptr() == x.data_ptr() for _, x in norms) and m not in readers:
            readers.append(m)
    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, nn.Linear) or 'Norm' in type(m).__name__]
    with torch.inference_mode():
        model(input_ids=ids)
    for h in hooks:
        h.remove()
    return norms, readers


def level(model, ids, dims, large):
    """Sets each norm so that its outputs are near 1, and near `large` (1.5 for the last norm) in `dims`."""
    few = torch.zeros(model.config.hidden_size, dtype=torch.bool)
    few[list(dims)] = True
    norms = []
    for m, _ in watch(model, ids)[0]:
        if m not in norms:
            norms.append(m)
    with torch.no_grad():
        for m in norms:
            x = torch.cat([o.reshape(-1, few.numel()) for n, o in watch(model, ids)[0] if n is m])
            target = torch.where(few, 1.5 if m is norms[-1] else large, 1.)
            scale = target / x.pow(2).mean(0).sqrt()
            plus_one = 1. if 'Gemma' in type(m).__name__ else 0.
            m.weight.copy_((m.weight + plus_one) * scale - plus_one)
            if getattr(m, 'bias', None) is not None:
                m.bias.mul_(torch.where(few, scale, 1.))


def post_norm_outliers(model, ids, dims=(5, 29), gain=40.):
    """Makes the values of the dimensions `dims` about `gain` between the layers, as in trained models whose norms follow the residual sum.
    The layers that read these dimensions get small weights."""
    with torch.no_grad():
        for linear in watch(model, ids)[1]:
            linear.weight[:, list(dims)] /= gain
    level(model, ids, dims, .7 * gain)


def pre_norm_outliers(model, ids, dims=(5, 29), gain=40.):
    """Makes outliers in models whose norms come before each block. The embedding table and every block write large values of the dimensions
    `dims` to the residual stream, and the norms scale all dimensions to values near 1."""
    hidden, readers = model.config.hidden_size, watch(model, ids)[1]
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.Embedding) and m.weight.shape[1] == hidden:
                m.weight[:, list(dims)] *= gain
            elif isinstance(m, nn.Linear) and m.out_features == hidden and m not in readers:
                m.weight[list(dims)] *= gain
    level(model, ids, dims, 1.)


# ---------------------------------------------------------------- building

def build(name, recipe, folder):
    seed = zlib.crc32(name.encode()) % 100000
    torch.manual_seed(seed)
    first = recipe['make']()
    if recipe['random']:
        randomise(first, seed)
    if isinstance(first, transformers.PreTrainedModel):
        first.eval()
        if recipe['spoil']:
            recipe['spoil'](first, torch.arange(7, 7 + 480).reshape(-1, 20))
        with tempfile.TemporaryDirectory() as d:
            first.save_pretrained(d)
            t = recipe['tokenizer']()
            t.model_max_length = recipe['longest']
            t.save_pretrained(d)
            first = Transformer(d)
    modules = [first] + (recipe['modules'](first.get_embedding_dimension()) if recipe['modules'] else [])
    for i, m in enumerate(modules[1:]):
        randomise(m, seed + 1 + i)
    model = SentenceTransformer(modules=modules, device='cpu', prompts=recipe['prompts'], default_prompt_name=recipe['default_prompt'])
    base.save(model, folder)
    for r, _, fs in os.walk(folder):
        if 'tokenizer.json' in fs:
            compact(os.path.join(r, 'tokenizer.json'))
    if recipe['dtype']:
        dtype = getattr(torch, recipe['dtype'])
        base.weights(folder, lambda w: {k: v.to(dtype) if v.is_floating_point() else v for k, v in w.items()})
        base.edit(folder, 'config.json', lambda c: c.update(dtype=recipe['dtype']))
    if recipe['rewrite']:
        before = base.encode(base.reload(folder, torch.float64), ['A cat sat.'])
        recipe['rewrite'](folder)
        assert torch.equal(before, base.encode(base.reload(folder, torch.float64), ['A cat sat.'])), f'{name}: rewrite changes vectors'


def compact(file):
    with open(file, encoding='utf-8') as f:
        value = json.load(f)
    with open(file, 'w', encoding='utf-8') as f:
        json.dump(value, f, ensure_ascii=False, separators=(',', ':'))
        f.write('\n')


def prefixed(prefix, heads=None):
    """A `rewrite` to the tensor names of a checkpoint with heads. `heads` has the shapes of tensors that Vectile must not read."""
    def rewrite(folder):
        def change(w):
            g = torch.Generator().manual_seed(1)
            return {prefix + k: v for k, v in w.items()} | {k: torch.randn(s, generator=g) for k, s in (heads or {}).items()}
        base.weights(folder, change)
    return rewrite


# ---------------------------------------------------------------- references

def rounded(folder, dtype, arithmetic=torch.float64):
    """Returns the model with matrices and tables rounded to `dtype`, and norms and biases unchanged."""
    m = base.reload(folder, torch.float32)
    with torch.no_grad():
        for p in m.parameters():
            if p.dim() > 1:
                p.copy_(p.to(dtype).to(p.dtype))
    return m.to(arithmetic)


def token_ids(model, text, prompt):
    return model.preprocess([text], prompt=prompt)['input_ids'].reshape(-1)


def of_length(t, n):
    """Returns a text of exactly n tokens, with special tokens. Its first word is different for each n."""
    words, text, i = ('the', 'water', 'of', 'a', 'is', 'and', 'in', 'to', 'for', 'with', 'it', 'on'), '', n
    while (have := len(t.encode(text).ids)) < n:
        for w in words[i % 12:] + words[:i % 12]:
            longer = f'{text} {w}'.strip()
            if have < len(t.encode(longer).ids) <= n:
                break
        text, i = longer, i + 5 + i % 3
    assert have == n, (n, have, text)
    return text


def compare(got, want):
    """Compares vectors as compare() of make_fixtures.py does, but without rows of zeros. A row of zeros must be zero in both arguments."""
    some = want.abs().sum(1) > 0
    assert not got[~some].any()
    return base.compare(got[some], want[some])


def stored_in(model, dtype):
    """Adds hooks that round the outputs of modules to `dtype`, similarly to a runtime with activations in that dtype."""
    f = lambda _, __, o: o.to(dtype).to(o.dtype)
    return [m.register_forward_hook(f) for m in model[0].modules() if isinstance(m, (nn.Linear, nn.Embedding)) or 'Norm' in type(m).__name__]


def finish(name, recipe, folder):
    """Writes texts.json, reference.safetensors and fixture.json, computed from the files in `folder`."""
    exact = base.reload(folder, torch.float64)
    whole = getattr(exact[0].tokenizer, 'backend_tokenizer', exact[0].tokenizer)
    whole.no_truncation(), whole.no_padding()
    texts = base.texts_for(whole, recipe['longest'], of_length, recipe['edges']) + list(recipe['extra_texts'])
    exact = base.reload(folder, torch.float64)
    assert exact.max_seq_length in (recipe['longest'], None, math.inf), (name, exact.max_seq_length)
    ref, about = {}, {}
    for key, options in recipe['cases'].items():
        prompt = exact._resolve_prompt(options.get('prompt'), options.get('prompt_name'))
        ids = [token_ids(exact, x, prompt) for x in texts]
        ref[key] = base.encode(exact, texts, **options)
        assert ref[key].dtype == torch.float64 and torch.isfinite(ref[key]).all(), name
        suffix = key[len('embeddings'):]
        ref['input_ids' + suffix] = torch.cat(ids)
        ref['offsets' + suffix] = torch.tensor([0] + [len(i) for i in ids]).cumsum(0)
        ref['full_lengths' + suffix] = torch.tensor([len(whole.encode((prompt or '') + x).ids) for x in texts])
        about[key] = dict(encode=options, prompt=prompt)
    first, options = next(iter(recipe['cases'].items()))
    unit = nn.functional.normalize(ref[first][[5, 8, 9, 10, 11, 12, 14, 15, 16]], dim=1)
    alike = float((unit @ unit.T - 2 * torch.eye(len(unit))).max())
    assert alike < .995, f'{name}: the vectors of different texts are too alike ({alike:.4f}) to show a mistake'
    together = exact.encode(texts, batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False, **options)
    assert recipe['alone'] or float((together - ref[first]).abs().max()) < 1e-10 * max(1, float(ref[first].abs().max())), f'{name}: the reference depends on padding'
    if isinstance(exact[0], Transformer):
        for i in SHOWN:
            ref[f'hidden.{i}'] = base.encode(exact, [texts[i]], output_value='token_embeddings', **{k: v for k, v in options.items() if k.startswith('prompt')})[0].float()
    measured = {'float32': compare(base.encode(base.reload(folder, torch.float32), texts, **options), ref[first])}
    for dtype in (torch.float16, torch.bfloat16):
        label = str(dtype)[6:]
        ref[f'embeddings.{label}'] = base.encode(rounded(folder, dtype), texts, **options).float()
        measured[f'{label}_weights'] = compare(ref[f'embeddings.{label}'], ref[first])
    m = rounded(folder, torch.float16, torch.float32)
    hooks = stored_in(m, torch.float16)
    measured['float16_weights_float16_activations'] = compare(base.encode(m, texts, **options), ref[first])
    peak = max(base.activations(exact, texts[:17])) if isinstance(exact[0], Transformer) else 0.
    base.write(folder, 'texts.json', texts)
    kind = getattr(getattr(exact[0], 'model', None), 'config', None)
    if recipe['publish']:
        ref.update(recipe['publish'](folder) or {})
        with open(os.path.join(folder, 'config.json')) as f:
            kind.model_type = json.load(f)['model_type']
    save_file({k: v.contiguous() for k, v in ref.items()}, os.path.join(folder, 'reference.safetensors'))
    base.write(folder, 'fixture.json', dict(name=name, family=kind.model_type if kind else type(exact[0]).__name__, note=' '.join((recipe['make'].__doc__ or '').split()), versions=base.VERSIONS,
                                            arithmetic='float64, one text at a time, sdpa attention', tensors=about, largest_activation=float(f'{peak:.4g}'), measured_against_reference=measured))
    report(name, folder, ref[first], measured, f'alike {alike:.2f}  peak {peak:9.1f}')


def report(name, folder, vectors, measured, more=''):
    files = [os.path.join(r, f) for r, _, fs in os.walk(folder) for f in fs]
    for f in files:
        os.chmod(f, 0o644)
    size = sum(map(os.path.getsize, files)) // 1024
    cosines = '  '.join(f"{k} {v['one_minus_min_cosine']:.0e}" for k, v in measured.items())
    print(f'{name:22s} {size:4d} KB  {tuple(vectors.shape)}  {more}  1-cos: {cosines}' + ('   LARGER THAN 200 KB' if size > 200 else ''), flush=True)


def load_recipes():
    sys.modules['family_fixtures'] = sys.modules[__name__]  # Recipes import this file by its name, even if it runs as a program.
    folder = os.path.join(HERE, 'families')
    for f in sorted(os.listdir(folder)):
        if f.endswith('.py'):
            spec = importlib.util.spec_from_file_location('families_' + f[:-3], os.path.join(folder, f))
            spec.loader.exec_module(importlib.util.module_from_spec(spec))


def make_each(recipes, out, build, finish):
    """Makes the directories that the arguments name, or all directories. Existing directories are replaced."""
    for name in sys.argv[1:] or recipes:
        folder = os.path.join(out, name)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        build(name, recipes[name], folder)
        finish(name, recipes[name], folder)


def main():
    load_recipes()
    wanted = sys.argv[1:] or list(FAMILIES)
    unknown = [n for n in wanted if n not in FAMILIES]
    if unknown:
        sys.exit(f'unknown family: {", ".join(unknown)}; known: {", ".join(FAMILIES)}')
    for name in wanted:
        folder = os.path.join(OUT, name)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        if 'whole' in FAMILIES[name]:
            FAMILIES[name]['whole'](name, folder)
            continue
        build(name, FAMILIES[name], folder)
        finish(name, FAMILIES[name], folder)


if __name__ == '__main__':
    main()
