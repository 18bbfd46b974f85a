"""Makes sentence-transformers directories with the shapes of known models and random weights, for machines without network access. The time of a
forward pass does not depend on the values of the weights.

The tokenizers know the words of texts.py, so that a text has about as many tokens as with a real tokenizer. Embedding tables have their full size.
"""
import json, os

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from . import texts

LIMIT = 512
# For each name: the class of the configuration, its fields, the pooling, the tokenizer, the bytes of a weight in the file, and the numbers of
# sentences and passages to time.
SHAPES = {
    'MiniLM': ('BertConfig', dict(vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536), 'mean', 'wordpiece', 4, (2048, 512)),
    'BERT-base': ('BertConfig', dict(vocab_size=30522, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072), 'mean', 'wordpiece', 4, (2048, 512)),
    'BERT-large': ('BertConfig', dict(vocab_size=30522, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096), 'cls', 'wordpiece', 4, (1024, 256)),
    'ModernBERT-base': ('ModernBertConfig', dict(vocab_size=50368, hidden_size=768, num_hidden_layers=22, num_attention_heads=12, intermediate_size=1152, local_attention=128,
                                                 global_attn_every_n_layers=3), 'mean', 'bpe-cls', 4, (1024, 256)),
    'Qwen3-0.6B': ('Qwen3Config', dict(vocab_size=151669, hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8, head_dim=128, intermediate_size=3072,
                                       max_position_embeddings=32768), 'lasttoken', 'bpe-eos', 2, (1024, 256)),
    'Mistral-7B': ('MistralConfig', dict(vocab_size=32000, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, intermediate_size=14336,
                                         max_position_embeddings=32768, sliding_window=4096), 'lasttoken', 'bpe-bos-eos', 2, (128, 64)),
}
# The same kinds of models, so small that any CPU can run them to test the script.
TINY = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=1024)


def tokenizer(kind):
    """Returns a tokenizer of the package `tokenizers`, and its special tokens by role."""
    if kind == 'wordpiece':
        special = {'pad_token': '[PAD]', 'unk_token': '[UNK]', 'cls_token': '[CLS]', 'sep_token': '[SEP]', 'mask_token': '[MASK]'}
        letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
        pieces = [*special.values(), *letters, *(f'##{letter}' for letter in letters), *(word for word in texts.vocabulary() if len(word) > 1)]
        made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, unk_token='[UNK]'))
        made.normalizer, made.pre_tokenizer, made.decoder = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        before, after = '[CLS]', '[SEP]'
    else:
        special = {'pad_token': '<pad>', 'cls_token': '<cls>', 'sep_token': '<sep>', 'bos_token': '<bos>', 'eos_token': '<eos>'}
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=list(special.values()), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
        made.train_from_iterator(texts.sentences(2000, seed=3), trainer)
        before, after = {'bpe-cls': ('<cls>', '<sep>'), 'bpe-eos': (None, '<eos>'), 'bpe-bos-eos': ('<bos>', '<eos>')}[kind]
    parts = [part for part in (before, '$A', after) if part]
    made.post_processor = processors.TemplateProcessing(single=' '.join(parts), special_tokens=[(t, made.token_to_id(t)) for t in parts if t != '$A'])
    return made, special


def parameters(shape, tiny=False):
    """Returns the number of parameters without allocating them."""
    import torch
    with torch.device('meta'):
        model = unmade(shape, tiny, torch.float32)
    return sum(p.numel() for p in model.parameters())


def unmade(shape, tiny, dtype):
    import transformers
    kind, fields, _, of, _, _ = SHAPES[shape]
    made, special = tokenizer(of)
    fields = {**fields, **(TINY if tiny else {})}
    if tiny and 'head_dim' in fields:
        fields['head_dim'] = 32
    if tiny and 'num_key_value_heads' in fields:
        fields['num_key_value_heads'] = 2
    ids = {f'{role}_id': made.token_to_id(special[role]) for role in ('pad_token', 'bos_token', 'eos_token', 'cls_token', 'sep_token') if role in special}
    config = getattr(transformers, kind)(**fields, **ids)
    config.use_cache = False
    return transformers.AutoModel.from_config(config, dtype=dtype, attn_implementation='sdpa')


def make(shape, folder, tiny=False):
    """Writes the directory unless it exists, and returns the size of its weights in f32, in bytes."""
    import torch
    from transformers import PreTrainedTokenizerFast
    count = parameters(shape, tiny)
    if os.path.exists(os.path.join(folder, 'made')):
        return 4 * count
    _, _, pooling, of, width, _ = SHAPES[shape]
    torch.manual_seed(1)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    with torch.device(device):
        model = unmade(shape, tiny, torch.float32 if width == 4 or tiny else torch.float16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                # transformers initialises biases to 0 and norms to 1. A runtime that ignored them would give the same vectors, so they get random values.
                parameter.add_(torch.randn_like(parameter) * 0.05)
            else:
                # transformers also initialises matrices to such small values that all texts have nearly the same vector, which would hide mistakes.
                parameter.normal_(0, 1 if 'embed' in name else parameter.shape[1] ** -0.5)
    model.save_pretrained(folder)
    hidden = model.config.hidden_size
    del model
    made, special = tokenizer(of)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=LIMIT, padding_side='left' if pooling == 'lasttoken' else 'right', **special)
    fast.save_pretrained(folder)

    def write(name, value):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as f:
            json.dump(value, f, indent=1)

    modules = [('', 'Transformer'), ('1_Pooling', 'Pooling'), ('2_Normalize', 'Normalize')]
    write('modules.json', [{'idx': i, 'name': str(i), 'path': path, 'type': f'sentence_transformers.models.{kind}'} for i, (path, kind) in enumerate(modules)])
    write('sentence_bert_config.json', {'max_seq_length': LIMIT, 'do_lower_case': False})
    write('1_Pooling/config.json', {'word_embedding_dimension': hidden, **{f'pooling_mode_{key}': name == pooling for key, name in (
        ('cls_token', 'cls'), ('mean_tokens', 'mean'), ('max_tokens', 'max'), ('mean_sqrt_len_tokens', 'sqrt'), ('weightedmean_tokens', 'weighted'), ('lasttoken', 'lasttoken'))}})
    os.makedirs(os.path.join(folder, '2_Normalize'), exist_ok=True)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    open(os.path.join(folder, 'made'), 'w').close()
    return 4 * count
