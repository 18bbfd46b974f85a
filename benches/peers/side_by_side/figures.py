"""Computes the figures of the table from measured seconds and vectors."""
import statistics

import numpy as np


def spread(values):
    return {'median': statistics.median(values), 'least': min(values), 'largest': max(values)}


def agreement(vectors, reference):
    """Returns the errors of vectors, compared with the first vectors of `reference`, or None if the shapes differ."""
    a, b = vectors.astype(np.float64), reference[:len(vectors)].astype(np.float64)
    if a.shape != b.shape:
        return None
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return {'largest_error': float(np.abs(a - b).max()), 'smallest_cosine': float(cosines.min())}


def figures(session, base, reference):
    """Returns the figures of a session as plain data. Ratios compare a row with the row `base` in the same round. Errors compare its vectors with those of
    the rows `base` and `reference`."""
    measured, rows = session.measured, []
    for row in session.rows:
        sets = {}
        for name, told in measured[row.name].items():
            rates = [told['tokens'] / seconds for seconds in told['seconds']]
            own = measured.get(base, {}).get(name)
            base_rates = [own['tokens'] / seconds for seconds in own['seconds']] if own else []
            compared = measured.get(reference, {}).get(name)
            sets[name] = {
                'texts': told['texts'],
                'tokens': told['tokens'],
                'repeat': told['repeat'],
                'seconds': told['seconds'],
                'first_pass_s': told['first_pass_s'],
                'tokens_per_s': spread(rates),
                'texts_per_s': statistics.median(told['texts'] / seconds for seconds in told['seconds']),
                'ratio': spread([rate / other for rate, other in zip(rates, base_rates)]) if base_rates else None,
                'against_base': agreement(told['vectors'], own['vectors']) if own else None,
                'against_reference': agreement(told['vectors'], compared['vectors']) if compared else None,
                'closest_texts_cosine': closest(told['vectors']),
            }
        # Without the row `reference`, vectors are compared with those of the row `base`.
        agreed = [s['against_reference'] or s['against_base'] for s in sets.values()]
        errors = [told['largest_error'] for told in agreed if told]
        tokens_agree = all(s['tokens'] == expected(measured, base, name, s) for name, s in sets.items())
        rows.append({
            'name': row.name,
            'where': row.where,
            'precision': row.precision,
            'worker': row.program,
            'tolerance': row.tolerance,
            'agrees': max(errors) <= row.tolerance if errors else None,
            'tokens_agree': tokens_agree,
            'first_vector_first_run_s': session.first_run.get(row.program),
            'first_vector_later_s': session.later.get(row.program),
            'sets': sets,
        })
    return rows


def expected(measured, base, name, own):
    other = measured.get(base, {}).get(name)
    return other['tokens'] if other and other['texts'] == own['texts'] else own['tokens']


def closest(vectors):
    """Returns the largest cosine between the vectors of two neighbouring texts. If it is near 1, agreement of vectors proves little."""
    if len(vectors) < 2:
        return 1.0
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return float((unit[1:] * unit[:-1]).sum(axis=1).max())


def times_the_better(rows, base, peers):
    """Returns, for each set of texts, the ratio of the rate of the row `base` to that of the faster peer in the same round: {set: (spread, name of the peer)}."""
    by_name = {row['name']: row for row in rows}
    there = [by_name[name] for name in peers if name in by_name]
    if base not in by_name or not there:
        return {}
    told = {}
    for name, own in by_name[base]['sets'].items():
        best = max(there, key=lambda row: row['sets'][name]['tokens_per_s']['median'])
        other = best['sets'][name]
        ratios = [own['tokens'] / a / (other['tokens'] / b) for a, b in zip(own['seconds'], other['seconds'])]
        told[name] = (spread(ratios), best['name'])
    return told
