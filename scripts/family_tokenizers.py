"""Makes tokenizers of a few hundred pieces for family_fixtures.py, with the classes of transformers."""
import json, os
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

import make_fixtures as base

# Training Unigram is not deterministic, so its pieces are in the repository.
PIECES = os.path.join(base.OUT, 'unigram_pieces.json')


def corpus():
    with open(os.path.join(base.ROOT, 'examples', 'collection.txt'), encoding='utf-8') as f:
        return f.read().splitlines()


def word_piece(**options):
    """Returns a BertTokenizer with the pieces of tests/fixtures/tokenizer.json: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4."""
    return lambda: transformers.BertTokenizer(vocab=base.tokenizer().get_vocab(), **options)


def word_piece_of(cls, special, **options):
    """Returns a tokenizer of another WordPiece class, with `special` instead of the five special tokens of BertTokenizer."""
    def make():
        pieces = sorted(base.tokenizer().get_vocab().items(), key=lambda p: p[1])
        return cls(vocab={p: i for i, p in enumerate([*special, *(p for p, _ in pieces[len(special):])])}, **options)
    return make


def byte_bpe(cls=transformers.RobertaTokenizer, special=('<s>', '<pad>', '</s>', '<unk>', '<mask>'), **options):
    """Returns a byte-level BPE tokenizer, with `special` first. Training is deterministic, so each run trains it again."""
    def make():
        t = Tokenizer(models.BPE())
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=base.PIECES, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False))
        merges = [tuple(m) for m in json.loads(t.to_str())['model']['merges']]
        return cls(vocab=t.get_vocab(), merges=merges, **options)
    return make


def unigram(cls=transformers.XLMRobertaTokenizer, special=('<s>', '<pad>', '</s>', '<unk>'), last=('<mask>',), **options):
    """Returns a Unigram tokenizer with the tokens `special`, as many pieces as fit, and the tokens `last`."""
    def make():
        if not os.path.exists(PIECES):
            t = Tokenizer(models.Unigram())
            t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
            t.train_from_iterator(corpus(), trainers.UnigramTrainer(vocab_size=base.PIECES, special_tokens=['<unk>'], unk_token='<unk>', show_progress=False))
            pieces = [[p, round(s, 4)] for p, s in json.loads(t.to_str())['model']['vocab'][1:]]
            with open(PIECES, 'w', encoding='utf-8') as f:
                f.write('[' + ',\n'.join(json.dumps(p, ensure_ascii=False) for p in pieces) + ']\n')
        with open(PIECES, encoding='utf-8') as f:
            pieces = [tuple(p) for p in json.load(f)]
        room = base.PIECES - len(special) - len(last)
        return cls(vocab=[(s, 0.) for s in special] + pieces[:room] + [(s, 0.) for s in last], **options)
    return make


def decoder(end='<|endoftext|>', start=None, cls=transformers.Qwen2Tokenizer):
    """Returns a byte-level BPE tokenizer of a decoder, whose post-processor puts `start` before a text and `end` after it."""
    def make():
        special = [t for t in (end, start, '<|pad|>') if t]
        t = byte_bpe(cls, special, pad_token='<|pad|>', eos_token=end, **({'bos_token': start} if start else {}))()
        backend = t.backend_tokenizer
        ids = [(token, backend.token_to_id(token)) for token in (start, end) if token]
        assert all(i is not None for _, i in ids), ids
        single = ' '.join([f'{start}:0'] * bool(start) + ['$A:0'] + [f'{end}:0'] * bool(end))
        backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
        return t
    return make
