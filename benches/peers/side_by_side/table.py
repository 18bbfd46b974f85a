"""Makes the table, in Markdown."""
import statistics


def number(value):
    return f'{value:.0f}' if value >= 100 else f'{value:.1f}' if value >= 10 else f'{value:.2f}'


def times(ratio):
    if ratio is None:
        return '–'
    return f'{number(ratio["median"])} ({number(ratio["least"])}–{number(ratio["largest"])})'


def error(told):
    """Returns the largest error over all sets of texts, and the distance of the smallest cosine from 1."""
    told = [t for t in told if t]
    if not told:
        return '–'
    cosine = max(0.0, 1 - min(t['smallest_cosine'] for t in told))
    return f'{max(t["largest_error"] for t in told):.1e}, {cosine:.0e}'


def seconds(row):
    later = row['first_vector_later_s']
    return f'{number(row["first_vector_first_run_s"])}' + (f', {number(statistics.median(later))}' if later else '')


def table(rows, base, reference):
    sets = list(rows[0]['sets']) if rows else []
    head = ['', 'where'] + [column for name in sets for column in (f'{name}: tokens/s', 'texts/s', f'× {base}')]
    head += ['first vector, s: first run, later', f'error, 1 − cosine: {reference}', f'{base}', 'same vectors']
    lines = [head, ['---'] * len(head)]
    for row in rows:
        line = [row['name'], row['where']]
        for name in sets:
            told = row['sets'][name]
            few = f' ({told["texts"]} of them)' if told['texts'] < max(r['sets'][name]['texts'] for r in rows) else ''
            line += [number(told['tokens_per_s']['median']), number(told['texts_per_s']) + few, '1' if row['name'] == base else times(told['ratio'])]
        line.append(seconds(row))
        line += [error([told[key] for told in row['sets'].values()]) for key in ('against_reference', 'against_base')]
        line.append({True: 'yes', False: f'**no** (beyond {row["tolerance"]:.0e})', None: 'not compared'}[row['agrees']] + ('' if row['tokens_agree'] else ', **other tokens**'))
        lines.append(line)
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
