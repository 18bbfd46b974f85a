#!/usr/bin/env python3
"""Compares the Python package with the Rust library, in speed and memory, and measures `similarity` and the time to import the package.

usage: benches/python.py --model DIR --peer target/release/examples/peer

Run it with the Python of a virtual environment that has the release wheel (`scripts/python.sh wheel`), and torch for the comparison of `similarity`.
`cargo build --release --example peer`, run in bindings/python, builds the worker of the Rust library in the same way as the wheel.
"""
import argparse, json, os, random, statistics, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, 'peers'))

import numpy as np

from side_by_side.machine import machine, slug
from side_by_side.worker import Program, Worker

IMPORT = 'import time; clocks = (time.perf_counter, time.process_time); begun = [now() for now in clocks]; import vectile; print(*(now() - at for now, at in zip(clocks, begun)))'
# `similarity` uses the threads of numpy or torch, as many as the machine has cores.
SIMILARITY = '''
import json, sys, time
import numpy as np
import torch
from vectile import util
a, b = (np.random.default_rng(seed).standard_normal((10_000, 384), dtype=np.float32) for seed in (1, 2))
ours, theirs, normalize = [], [], torch.nn.functional.normalize
def of_torch():
    return normalize(torch.from_numpy(a)) @ normalize(torch.from_numpy(b)).T
for turn in range(int(sys.argv[1]) + 1):
    for seconds, run in ((ours, lambda: util.cos_sim(a, b)), (theirs, of_torch)):
        begun = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - begun)
        del result
largest = float((util.cos_sim(a, b) - of_torch()).abs().max())
print(json.dumps({'vectile_s': ours[1:], 'torch_s': theirs[1:], 'torch': torch.__version__, 'largest_difference': largest}))
'''


def cpu_seconds(pid):
    """Returns the processor time of a process and its threads."""
    with open(f'/proc/{pid}/stat', encoding='utf-8') as f:
        fields = f.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def peak_mib(pid):
    with open(f'/proc/{pid}/status', encoding='utf-8') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmHWM')) / 1024


def write_texts(path, count):
    with open(os.path.join(ROOT, 'examples', 'collection.txt'), encoding='utf-8') as f:
        words = f.read().split()
    chosen = random.Random(1)
    with open(path, 'w', encoding='utf-8') as f:
        f.writelines(' '.join(chosen.choices(words, k=chosen.randint(3, 14))) + '\n' for _ in range(count))
    return path


def embed(args, folder):
    """Returns the figures of both sides. Each round measures both, and every other round begins with the other side."""
    python = [sys.executable, os.path.join(HERE, 'peers', 'workers', 'vectile_python_peer.py')]
    options = [os.path.abspath(args.model), '--adapter', args.adapter, '--dtype', 'float32']
    commands = {'rust': [os.path.abspath(args.peer), *options], 'python': [*python, *options]}
    workers = {name: Worker(Program(name, command), os.path.join(folder, 'cache'), os.path.join(folder, f'{name}.log')) for name, command in commands.items()}
    few, texts = write_texts(os.path.join(folder, 'few.txt'), 500), write_texts(os.path.join(folder, 'texts.txt'), args.texts)
    devices, figures = {}, {name: {'seconds': [], 'cpu_seconds': []} for name in workers}
    try:
        for name, worker in workers.items():
            devices[name] = worker.read(300)['device']
            figures[name]['loaded_mib'] = peak_mib(worker.process.pid)
            # The first pass of a process is not counted.
            worker.checked({'texts': few})
        for turn in range(args.rounds):
            for name in list(workers)[::1 if turn % 2 == 0 else -1]:
                pid = workers[name].process.pid
                before = cpu_seconds(pid)
                figures[name]['seconds'] += workers[name].checked({'texts': texts})['seconds']
                figures[name]['cpu_seconds'].append(cpu_seconds(pid) - before)
                figures[name]['peak_mib'] = peak_mib(pid)
        # Memory has been read before the vectors are written.
        for name, worker in workers.items():
            worker.checked({'texts': texts, 'npy': os.path.join(folder, f'{name}.npy')})
    finally:
        for worker in workers.values():
            worker.stop()
    ours, theirs = (np.load(os.path.join(folder, f'{name}.npy')) for name in ('python', 'rust'))
    ratio = lambda what: [theirs / ours for ours, theirs in zip(figures['python'][what], figures['rust'][what])]
    return {
        'texts': args.texts, 'devices': devices, 'bit_identical': bool(np.array_equal(ours, theirs)), **figures,
        'speed_ratio': ratio('seconds'), 'cpu_ratio': ratio('cpu_seconds'), 'memory_ratio': figures['python']['peak_mib'] / figures['rust']['peak_mib'],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default=os.path.join(ROOT, '.vectile', 'models', 'all-MiniLM-L6-v2'), help='the directory of the model')
    parser.add_argument('--peer', default=os.path.join(ROOT, 'target', 'release', 'examples', 'peer'), help='the worker of the Rust library')
    parser.add_argument('--adapter', default='cpu', help='the adapter of both sides')
    parser.add_argument('--texts', type=int, default=20_000)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--json', help='the file for the JSON (default: benches/results/DATE-python-MACHINE.json)')
    args = parser.parse_args()
    if not os.path.exists(args.peer):
        sys.exit(f'{args.peer} does not exist; build it with `cargo build --release --example peer` in bindings/python, or give --peer')

    about = machine(ROOT)
    printed = [subprocess.run([sys.executable, '-c', IMPORT], check=True, capture_output=True, text=True).stdout.split() for _ in range(9)]
    imports, of_them = ([float(times[at]) * 1000 for times in printed] for at in (0, 1))
    print(f'import vectile: {statistics.median(imports):.0f} ms ({min(imports):.0f}–{max(imports):.0f}), of which {statistics.median(of_them):.0f} ms are processor time; {len(imports)} new processes', flush=True)
    compared = subprocess.run([sys.executable, '-c', SIMILARITY, str(args.rounds)], capture_output=True, text=True)
    similarity = json.loads(compared.stdout) if compared.returncode == 0 else None
    if similarity is None:
        print(f'SKIPPED: similarity, compared with torch ({compared.stderr.strip().splitlines()[-1]})', flush=True)
    else:
        ours, theirs = (statistics.median(similarity[name]) for name in ('vectile_s', 'torch_s'))
        print(f'similarity of 10,000 × 10,000 vectors of 384 values: {ours:.2f} s, torch {theirs:.2f} s; they differ by at most {similarity["largest_difference"]:.1e}', flush=True)
    with tempfile.TemporaryDirectory() as folder:
        embedded = embed(args, folder)
    rates = {name: args.texts / statistics.median(embedded[name]['seconds']) for name in ('python', 'rust')}
    print(f'{args.texts} texts on {embedded["devices"]["python"]}, {args.rounds} rounds: Python {rates["python"]:.0f} texts/s, Rust {rates["rust"]:.0f} texts/s')
    for what, name in (('speed_ratio', 'speed'), ('cpu_ratio', 'texts per CPU-second')):
        print(f'Python relative to Rust, {name}: {statistics.median(embedded[what]):.3f} ({min(embedded[what]):.3f}–{max(embedded[what]):.3f})')
    print(f'peak memory: Python {embedded["python"]["peak_mib"]:.0f} MiB, Rust {embedded["rust"]["peak_mib"]:.0f} MiB, ratio {embedded["memory_ratio"]:.3f}')
    print(f'vectors are {"bit-identical" if embedded["bit_identical"] else "DIFFERENT"}')
    path = args.json or os.path.join(HERE, 'results', f'{about["date"][:10]}-{slug("python", about["cores"], "cores", about["cpu"])}.json')
    with open(path, 'w', encoding='utf-8') as f:
        f.write(json.dumps({'schema': 1, 'machine': about, 'import_ms': imports, 'import_cpu_ms': of_them, 'similarity': similarity, 'embed': embedded}, indent=1) + '\n')
    print(f'written to {os.path.relpath(path, ROOT)}')
    if not embedded['bit_identical']:
        sys.exit(1)


main()
