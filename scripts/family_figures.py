#!/usr/bin/env python3
"""Prints the table of tests/golden/FIGURES.md from the output of the golden test of the families.

    cargo test --test golden families -- --nocapture 2>&1 | python3 scripts/family_figures.py

The table has one row for each family, with 1 - the smallest cosine over its texts in each storage type. The script needs only
Python.
"""
import re, sys

LINE = re.compile(r'^(\S+) in (.+) weights, (.+) activations: 1 - cosine (\S+?)(?:, (\S+) from the checkpoint\S* own weights)?, relative')
COLUMNS = ('f32', 'f16, activations too', 'packed f16', 'packed f16, activations too', 'packed bf16')


def column(weights, activations):
    return {('f32', 'f32'): 0, ('f16', 'f16'): 1, ('packed f16', 'f32'): 2, ('packed f16', 'packed f16'): 3, ('packed bf16', 'f32'): 4}.get((weights, activations))


def main():
    rows = {}
    for line in sys.stdin:
        found = LINE.match(line.strip())
        if not found:
            continue
        name, weights, activations, same, own = found.groups()
        at = column(weights, activations)
        if at is None:
            continue
        worst, stray = rows.setdefault(name, {}).get(at, (0., None))
        # f32 runs with the kernels for GPUs and with those for software adapters; the table shows the worse result.
        rows[name][at] = (max(worst, float(same)), own or stray)
    if not rows:
        sys.exit('standard input has no line of the golden test of the families; pipe its output into this script, as its header shows')
    print('| family | ' + ' | '.join(COLUMNS) + ' |')
    print('|---' * (len(COLUMNS) + 1) + '|')
    for name in sorted(rows):
        cells = []
        for at in range(len(COLUMNS)):
            same, own = rows[name].get(at, (None, None))
            cells.append('' if same is None else f'{same:.0e}' if own is None else f'{same:.0e}; {float(own):.0e}')
        print(f'| {name} | ' + ' | '.join(cells) + ' |')


if __name__ == '__main__':
    main()
