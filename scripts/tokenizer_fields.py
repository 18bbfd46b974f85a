#!/usr/bin/env python3
"""Writes tests/fixtures/tokenizer_fields.json: the token ids that transformers 4 and 5 give for each tokenizer field outside tokenizer.json.

    python3 -m venv /tmp/t4 && /tmp/t4/bin/pip install transformers==4.57.6 sentencepiece protobuf
    python3 -m venv /tmp/t5 && /tmp/t5/bin/pip install transformers==5.24.0 sentencepiece protobuf
    scripts/tokenizer_fields.py /tmp/t4/bin/python /tmp/t5/bin/python

Each case has a tokenizer.json of the fixtures with changes, and other tokenizer files. Both versions load it with AutoTokenizer, which
needs no torch. `ids` holds their token ids. If a version fails to load a case, `ids` holds the first line of its error instead.
"""
import copy, json, os, subprocess, sys, tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIXTURES = os.path.join(ROOT, 'tests', 'fixtures')
OUT = os.path.join(FIXTURES, 'tokenizer_fields.json')
PINNED = {'4': '4.57.6', '5': '5.24.0'}
TEXTS = ['A cat  sat.', 'Crème Brûlée 你好 x', ' lead [NEW] and <new>trail <NEW> [new] renewal', '[MASK]<mask> </s> <s>', 'don\'t ''stop''\nnow', '']

ADDED = {'lstrip': False, 'rstrip': False, 'single_word': False, 'normalized': False, 'special': True}


def added(content, **more):
    return {'content': content, **ADDED, **more}


def cases():
    def case(name, source, model_type, settings, json_changes=None, **files):
        out.append({'name': name, 'source': source, 'model_type': model_type, 'changes': json_changes or {}, 'files': {'tokenizer_config.json': settings, **{k.replace('__', '.'): v for k, v in files.items()}}})

    out = []
    named = {'cls_token': '[CLS]', 'sep_token': '[SEP]', 'mask_token': '[MASK]', 'pad_token': '[PAD]', 'unk_token': '[UNK]'}

    # Fields for the normalizer of BERT's classes, whatever tokenizer.json contains.
    for cls, model in [('BertTokenizer', 'bert'), ('BertTokenizerFast', 'bert'), ('DistilBertTokenizer', 'distilbert'), ('ElectraTokenizer', 'electra'), (None, 'bert'), ('PreTrainedTokenizerFast', 'bert')]:
        base = {**named, **({'tokenizer_class': cls} if cls else {})}
        for field in ['do_lower_case', 'strip_accents', 'tokenize_chinese_chars']:
            for value in [True, False]:
                case(f'{cls} {field} {value}', 'tokenizer.json', model, {**base, field: value})
        case(f'{cls} none', 'tokenizer.json', model, base)
        case(f'{cls} cased file', 'tokenizer.json', model, base, {'normalizer.lowercase': False})
        case(f'{cls} cased file, settings agree', 'tokenizer.json', model, {**base, 'do_lower_case': False}, {'normalizer.lowercase': False})
        case(f'{cls} sequence normalizer', 'tokenizer.json', model, base, {'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'Lowercase'}]}})
        case(f'{cls} other pre-tokenizer', 'tokenizer.json', model, base, {'pre_tokenizer': {'type': 'WhitespaceSplit'}})
        case(f'{cls} without post-processor', 'tokenizer.json', model, base, {'post_processor': None})
        case(f'{cls} cls_token changed', 'tokenizer.json', model, {**base, 'cls_token': '[MASK]'})
        case(f'{cls} add_bos_token', 'tokenizer.json', model, {**base, 'add_bos_token': True, 'bos_token': '[MASK]'})
    case('no settings, cased file', 'tokenizer.json', 'bert', None, {'normalizer.lowercase': False})
    mpnet = {'tokenizer_class': 'MPNetTokenizer'}
    for field in ['do_lower_case', 'strip_accents', 'tokenize_chinese_chars']:
        for value in [True, False]:
            case(f'MPNetTokenizer {field} {value}', 'families/mpnet/tokenizer.json', 'mpnet', {**mpnet, field: value})

    # Tokens in files other than tokenizer.json.
    for cls, source, model in [('BertTokenizer', 'tokenizer.json', 'bert'), ('PreTrainedTokenizerFast', 'tokenizer.json', 'bert'), ('RobertaTokenizer', 'families/roberta/tokenizer.json', 'roberta'),
                               ('XLMRobertaTokenizer', 'families/xlm_roberta/tokenizer.json', 'xlm-roberta'), ('Qwen2Tokenizer', 'families/qwen3/tokenizer.json', 'qwen3'), ('LlamaTokenizer', 'families/mistral/tokenizer.json', 'mistral')]:
        vocab = json.load(open(os.path.join(FIXTURES, source)))
        size = max([t['id'] for t in vocab['added_tokens']] + [len(vocab['model']['vocab']) - 1]) + 1
        base = {'tokenizer_class': cls}
        case(f'{cls} added_tokens.json', source, model, base, added_tokens__json={'[NEW]': size, '<new>': size + 1})
        case(f'{cls} added_tokens.json not in order', source, model, base, added_tokens__json={'[NEW]': size + 1, '<new>': size})
        case(f'{cls} added_tokens_decoder', source, model, {**base, 'added_tokens_decoder': {str(size): added('[NEW]'), str(size + 1): added('<new>', special=False, normalized=True)}})
        case(f'{cls} added_tokens_decoder with a gap', source, model, {**base, 'added_tokens_decoder': {str(size + 5): added('[NEW]')}})
        case(f'{cls} added_tokens_decoder and added_tokens.json', source, model, {**base, 'added_tokens_decoder': {str(size): added('[NEW]')}}, added_tokens__json={'<new>': size + 1})
        for flag in ['lstrip', 'rstrip', 'single_word', 'normalized']:
            case(f'{cls} added_tokens_decoder {flag}', source, model, {**base, 'added_tokens_decoder': {str(size): added('new', **{flag: True})}})
        case(f'{cls} additional_special_tokens', source, model, {**base, 'additional_special_tokens': ['[NEW]', '<new>']})
        case(f'{cls} extra_special_tokens', source, model, {**base, 'extra_special_tokens': {'new_token': '[NEW]'}})
        case(f'{cls} extra_special_tokens as a list', source, model, {**base, 'extra_special_tokens': ['[NEW]']})
        case(f'{cls} special_tokens_map.json', source, model, base, special_tokens_map__json={'additional_special_tokens': ['[NEW]', added('<new>')]})
        case(f'{cls} special_tokens_map.json behind a decoder', source, model, {**base, 'added_tokens_decoder': {}}, special_tokens_map__json={'additional_special_tokens': ['[NEW]']})
        case(f'{cls} pad_token not in the vocabulary', source, model, {**base, 'pad_token': '[NEW]'})
        case(f'{cls} pad_token in special_tokens_map.json', source, model, base, special_tokens_map__json={'pad_token': added('[NEW]')})
        case(f'{cls} no settings', source, model, None)
        case(f'{cls} flags of a token of the file', source, model, {**base, 'added_tokens_decoder': {'0': {**vocab['added_tokens'][0], 'lstrip': True, 'id': None}}})
        case(f'{cls} split_special_tokens', source, model, {**base, 'split_special_tokens': True})

    # Fields for tokens at the beginning and the end of a text.
    for cls, source, model in [('LlamaTokenizer', 'families/mistral/tokenizer.json', 'mistral'), ('LlamaTokenizerFast', 'families/mistral/tokenizer.json', 'mistral'), ('LlamaTokenizer', 'families/llama/tokenizer.json', 'llama'),
                               ('PreTrainedTokenizerFast', 'families/llama/tokenizer.json', 'llama'), ('GemmaTokenizer', 'families/gemma3/tokenizer.json', 'gemma3_text'), ('Qwen2Tokenizer', 'families/qwen3/tokenizer.json', 'qwen3'),
                               ('GPT2Tokenizer', 'families/roberta/tokenizer.json', 'gpt2'), ('GPTNeoXTokenizer', 'families/roberta/tokenizer.json', 'gpt_neox'), ('RobertaTokenizer', 'families/roberta/tokenizer.json', 'roberta'),
                               ('CohereTokenizer', 'families/roberta/tokenizer.json', 'cohere'), (None, 'families/mistral/tokenizer.json', 'mistral'), ('XLMRobertaTokenizer', 'families/xlm_roberta/tokenizer.json', 'xlm-roberta'),
                               ('T5Tokenizer', 'families/t5/tokenizer.json', 't5')]:
        vocab = json.load(open(os.path.join(FIXTURES, source)))
        special = [t['content'] for t in vocab['added_tokens']]
        base = {**({'tokenizer_class': cls} if cls else {}), 'bos_token': '<s>' if '<s>' in special else special[0], 'eos_token': '</s>' if '</s>' in special else special[0]}
        for values in [{}, {'add_bos_token': True}, {'add_bos_token': False}, {'add_eos_token': True}, {'add_eos_token': False}, {'add_bos_token': True, 'add_eos_token': True}, {'add_bos_token': False, 'add_eos_token': False}]:
            say = ' '.join(f'{k} {v}' for k, v in values.items()) or 'neither add_bos_token nor add_eos_token'
            case(f'{cls} {model} {say}', source, model, {**base, **values})
        case(f'{cls} {model} without a post-processor', source, model, base, {'post_processor': None})
        case(f'{cls} {model} without a post-processor, add_eos_token', source, model, {**base, 'add_eos_token': True}, {'post_processor': None})
        case(f'{cls} {model} eos_token in special_tokens_map.json', source, model, {k: v for k, v in {**base, 'add_eos_token': True}.items() if k != 'eos_token'}, special_tokens_map__json={'eos_token': added(special[-1])})

    # Fields for a space before the text.
    for cls, model in [('RobertaTokenizer', 'roberta'), ('RobertaTokenizerFast', 'roberta'), ('GPT2Tokenizer', 'gpt2'), ('PreTrainedTokenizerFast', 'modernbert'), ('Qwen2Tokenizer', 'qwen2'), (None, 'roberta')]:
        base = {'tokenizer_class': cls} if cls else {}
        for file in [True, False]:
            for value in [None, True, False]:
                case(f'{cls} {model} add_prefix_space {value}, file {file}', 'families/roberta/tokenizer.json', model, base if value is None else {**base, 'add_prefix_space': value}, {'pre_tokenizer.add_prefix_space': file})
    metaspace = {'type': 'Metaspace', 'replacement': '▁', 'prepend_scheme': 'always', 'split': True}
    for cls, source, model in [('XLMRobertaTokenizer', 'families/xlm_roberta/tokenizer.json', 'xlm-roberta'), ('XLMRobertaTokenizerFast', 'families/xlm_roberta/tokenizer.json', 'xlm-roberta'), ('PreTrainedTokenizerFast', 'families/xlm_roberta/tokenizer.json', 'xlm-roberta'),
                               ('CamembertTokenizer', 'families/camembert/tokenizer.json', 'camembert'), ('T5Tokenizer', 'families/t5/tokenizer.json', 't5'), ('AlbertTokenizer', 'families/albert/tokenizer.json', 'albert'),
                               ('DebertaV2Tokenizer', 'families/deberta_v2/tokenizer.json', 'deberta-v2'), ('LlamaTokenizer', 'families/mistral/tokenizer.json', 'mistral')]:
        base = {'tokenizer_class': cls}
        for value in [None, True, False]:
            case(f'{cls} add_prefix_space {value}', source, model, base if value is None else {**base, 'add_prefix_space': value})
        case(f'{cls} Metaspace alone', source, model, base, {'pre_tokenizer': metaspace})
        case(f'{cls} Metaspace never', source, model, base, {'pre_tokenizer': {**metaspace, 'prepend_scheme': 'never'}})
        case(f'{cls} other normalizer', source, model, base, {'normalizer': {'type': 'Lowercase'}})
        for field, values in [('do_lower_case', [True, False]), ('keep_accents', [True, False]), ('remove_space', [False]), ('split_by_punct', [True, False]), ('legacy', [True, False])]:
            for value in values:
                case(f'{cls} {model} {field} {value}', source, model, {**base, field: value})
    names = [c['name'] for c in out]
    assert len(names) == len(set(names)), [n for n in names if names.count(n) > 1]
    return out


def tokenizer_of(case):
    tokenizer = json.load(open(os.path.join(FIXTURES, case['source'])))
    for path, value in case['changes'].items():
        at = tokenizer
        *before, last = path.split('.')
        for key in before:
            at = at[key]
        at[last] = value
    return tokenizer


def ask(python, all_cases):
    """Prints the token ids of all cases. This function runs in the environment of one version of transformers."""
    with tempfile.TemporaryDirectory() as directory:
        request = os.path.join(directory, 'cases.json')
        with open(request, 'w') as f:
            json.dump([{**c, 'tokenizer': tokenizer_of(c)} for c in all_cases], f)
        done = subprocess.run([python, os.path.abspath(__file__), '--ask', request], capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])


def answer(request):
    import warnings
    warnings.filterwarnings('ignore')
    import transformers
    transformers.logging.set_verbosity_error()
    answers = []
    for case in json.load(open(request)):
        with tempfile.TemporaryDirectory() as directory:
            files = {'tokenizer.json': case['tokenizer'], 'config.json': {'model_type': case['model_type']}, **case['files']}
            for name, contents in files.items():
                if contents is not None:
                    with open(os.path.join(directory, name), 'w') as f:
                        json.dump(contents, f)
            try:
                tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
                answers.append({'class': type(tokenizer).__name__, 'ids': [tokenizer(text).input_ids for text in TEXTS], 'pair': tokenizer('one', 'two').input_ids})
            except Exception as error:
                answers.append({'error': f'{type(error).__name__}: {error}'.splitlines()[0][:120]})
    print(json.dumps({'version': transformers.__version__, 'answers': answers}))


def main():
    if sys.argv[1] == '--ask':
        return answer(sys.argv[2])
    all_cases = cases()
    for version, python in zip(('4', '5'), sys.argv[1:3]):
        given = ask(python, all_cases)
        assert given['version'] == PINNED[version], given['version']
        for case, one in zip(all_cases, given['answers']):
            case[version] = one
    text = ',\n '.join(json.dumps(case, ensure_ascii=False) for case in all_cases)
    with open(OUT, 'w') as f:
        f.write('{"versions": %s,\n"texts": %s,\n"cases": [\n %s\n]}\n' % (json.dumps(PINNED), json.dumps(TEXTS, ensure_ascii=False), text))
    print(f'{len(all_cases)} cases; {sum(c["4"].get("ids") != c["5"].get("ids") for c in all_cases)} differ between the versions')


if __name__ == '__main__':
    main()
