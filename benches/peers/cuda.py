#!/usr/bin/env python3
"""Compares Vectile with sentence-transformers on CUDA, in f32 and f16 with SDPA. The machine needs no network, because the script makes
checkpoints with the shapes of known models and random weights (side_by_side/checkpoints.py).

    benches/peers/cuda.sh                                on an NVIDIA machine with torch, transformers and sentence-transformers
    benches/peers/cuda.sh --device cpu --tiny            tiny shapes on any machine, to test the script
"""
import argparse, importlib.util, json, os, shutil, sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
missing = [name for name in ('numpy', 'torch', 'transformers', 'sentence_transformers', 'tokenizers', 'safetensors') if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f'{sys.executable} lacks {", ".join(missing)}; set PYTHON to a Python that has these packages, or install them from wheels')

from side_by_side import checkpoints, texts
from side_by_side.figures import figures
from side_by_side.machine import machine, slug
from side_by_side.rounds import Session, say
from side_by_side.table import table
from side_by_side.worker import Program, Row

# The share of the device's memory for weights. Activations and the caches of the frameworks need the remaining memory.
SHARE_FOR_WEIGHTS = 0.75
F32, F16 = 1e-4, 2e-2


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cuda', help='the device of sentence-transformers: cuda, cuda:1 or cpu')
    parser.add_argument('--shapes', default=','.join(checkpoints.SHAPES), help='the shapes to measure, separated by commas, from this list: ' + ', '.join(checkpoints.SHAPES))
    parser.add_argument('--tiny', action='store_true', help='run the same kinds of models with two narrow layers, on few texts')
    parser.add_argument('--batch', default='32,128,512', help="the number of texts in a batch of sentence-transformers; several numbers are separated by commas")
    parser.add_argument('--batch-tokens', default='', help="also measure Vectile with these token budgets, separated by commas")
    parser.add_argument('--texts', help='the numbers of sentences and passages, such as 128,16; by default they depend on the shape')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--adapter', help='the adapter of Vectile: an index or a part of a name')
    parser.add_argument('--vectile', default=os.environ.get('VECTILE_PEER') or os.path.join(ROOT, 'target', 'release', 'examples', 'peer'), help='the worker of Vectile, which cargo build --release --example peer builds')
    parser.add_argument('--work', default=os.path.join(ROOT, '.vectile', 'peers', 'cuda'), help='the directory in which checkpoints are made')
    parser.add_argument('--keep', action='store_true', help='keep the checkpoints')
    parser.add_argument('--json', help='the file for the JSON (default: benches/results/DATE-MACHINE-cuda.json)')
    return parser.parse_args()


def programs(args, model, f32_bytes):
    """Yields each program that can be measured and its row of the table, with the bytes of its weights on the device."""
    worker = os.path.join(HERE, 'workers', 'sentence_transformers_peer.py')
    adapter = ['--adapter', args.adapter] if args.adapter else []
    where = 'CUDA' if args.device.startswith('cuda') else args.device
    for dtype, size, tolerance in (('float32', f32_bytes, F32), ('float16', f32_bytes // 2, F16)):
        short = 'f32' if dtype == 'float32' else 'f16'
        program = Program(f'st-{short}', [sys.executable, worker, model, '--device', args.device, '--dtype', dtype], device_bytes=size)
        for batch in args.batch.split(','):
            yield program, Row(f'sentence-transformers {short}, batch {batch}', program.key, where, short, {'batch': int(batch)}, tolerance=tolerance)
    kinds = (('f32', ['--dtype', 'float32'], f32_bytes, F32), ('f16', ['--dtype', 'float16', '--half-fallback', 'error'], f32_bytes // 2, F16),
             ('packed f16', ['--dtype', 'float16', '--disable', 'shader-f16', '--half-fallback', 'packed'], f32_bytes // 2, F16))
    for batch in ['', *(b for b in args.batch_tokens.split(',') if b)]:
        for name, chosen, size, tolerance in kinds:
            more = ['--batch-tokens', batch] if batch else []
            program = Program(f'vectile-{slug(name, batch)}', [args.vectile, model, *chosen, *more, *adapter], device_bytes=size)
            yield program, Row(f'Vectile {name}' + (f', batch of {batch} tokens' if batch else ''), program.key, 'wgpu', name.split()[-1], tolerance=tolerance)


def that_fit(args, pairs):
    """Returns the programs whose weights fit on a CUDA device together, since all workers stay loaded. The largest programs are left out first,
    so f32 before f16. For other devices, returns all programs."""
    if not args.device.startswith('cuda'):
        return pairs, {}
    import torch
    space = SHARE_FOR_WEIGHTS * torch.cuda.mem_get_info(args.device)[0]
    kept = {program.key: program for program, _ in pairs}
    left_out = {}
    while sum(program.device_bytes for program in kept.values()) > space and len(kept) > 1:
        program = kept.pop(max(kept, key=lambda key: (kept[key].device_bytes, key.startswith('vectile'))))
        left_out[program.key] = f'its {program.device_bytes / 2**30:.1f} GiB of weights do not fit beside the others into {space / 2**30:.0f} GiB'
    return [(program, row) for program, row in pairs if program.key in kept], left_out


def measure(args, shape):
    say(f'==> {shape}: making a checkpoint with random weights')
    folder = os.path.join(args.work, slug(shape, 'tiny' if args.tiny else ''))
    f32_bytes = checkpoints.make(shape, folder, args.tiny)
    pairs, left_out = that_fit(args, list(programs(args, folder, f32_bytes)))
    counts = [int(count) for count in args.texts.split(',')] if args.texts else (24, 8) if args.tiny else checkpoints.SHAPES[shape][-1]
    sets = {'sentences': texts.sentences(counts[0]), 'passages': texts.passages(counts[1])}
    session = Session([program for program, _ in pairs], [row for _, row in pairs], sets, os.path.join(args.work, 'session'))
    session.begin()
    session.run(args.rounds)
    session.end(starts=0)
    names = [row.name for row in session.rows]
    base = next((name for name in names if name.startswith('Vectile')), None)
    reference = next((name for name in names if name.startswith('sentence-transformers')), None)
    if not base or not reference:
        say(f'{shape}: {"Vectile" if not base else "sentence-transformers"} was not measured: {session.left_out}')
    rows = figures(session, base, reference)
    if not args.keep:
        shutil.rmtree(folder)
    result = {'parameters': f32_bytes // 4, 'base': base, 'reference': reference, 'texts': {name: len(kept) for name, kept in sets.items()}, 'workers': session.about, 'rows': rows,
              'left_out': {**left_out, **session.left_out}}
    print(f'\n## {shape}, {f32_bytes // 4 / 1e6:.1f} M parameters\n')
    if rows:
        print(table(rows, base, reference))
    for name, reason in result['left_out'].items():
        print(f'\nLeft out: {name}: {reason}')
    sys.stdout.flush()
    return result


def main():
    args = options()
    args.vectile, args.work = os.path.abspath(args.vectile), os.path.abspath(args.work)
    shapes = args.shapes.split(',')
    if unknown := [shape for shape in shapes if shape not in checkpoints.SHAPES]:
        sys.exit(f'--shapes: `{unknown[0]}` is not a shape; the shapes are {", ".join(checkpoints.SHAPES)}')
    if not os.path.exists(args.vectile):
        sys.exit(f'{args.vectile} does not exist; build it with `cargo build --release --example peer`, or set VECTILE_PEER to a built worker')
    import torch
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        sys.exit('torch finds no CUDA device; to test this script without one, use --device cpu --tiny')
    about = {**machine(ROOT), 'device': torch.cuda.get_device_name(args.device) if args.device.startswith('cuda') else 'CPU'}
    result = {'schema': 1, 'machine': about, 'settings': {'rounds': args.rounds, 'tiny': args.tiny, 'batch': args.batch, 'random_weights': True}, 'shapes': {}}
    path = args.json or os.path.join(ROOT, 'benches', 'results', f'{about["date"][:10]}-{slug(about["device"])}-cuda.json')
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    print(f'{about["device"]}; {about["nvidia"] or "no nvidia-smi"}; {about["cores"]} cores of {about["cpu"]}; {about["date"][:10]}; rounds: {args.rounds}; random weights')
    for shape in shapes:
        result['shapes'][shape] = measure(args, shape)
        # The file is written after each shape, so that an interrupted run keeps the finished shapes.
        with open(path, 'w', encoding='utf-8') as f:
            f.write(json.dumps(result, indent=1) + '\n')
    say(f'\n==> {path}')


if __name__ == '__main__':
    main()
