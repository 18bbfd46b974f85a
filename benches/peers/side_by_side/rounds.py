"""Measures the rows. Each round measures every row once, so that a slow moment of the machine affects all rows."""
import os, shutil, statistics, sys, tempfile, time

import numpy as np

from .machine import slug
from .worker import Failed, Worker

# The minimum duration of a measurement in seconds. A fast peer embeds its texts several times in this time.
SECONDS_OF_A_TURN = 1.0
LATER_STARTS = 3


def say(text):
    print(text, file=sys.stderr, flush=True)


def write(path, texts):
    with open(path, 'w', encoding='utf-8') as f:
        f.write(''.join(text + '\n' for text in texts))
    return path


class Session:
    """`texts` is {name of a set: texts}. The workers of `programs` measure `rows`, with files in `folder`."""
    def __init__(self, programs, rows, texts, folder):
        self.programs = {program.key: program for program in programs}
        self.rows, self.texts, self.folder = rows, texts, folder
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        # This directory is outside the project, because burn caches its tuned kernels in the target directory of the project in which it is started.
        self.caches = tempfile.mkdtemp(prefix='peers-')
        self.first = write(os.path.join(folder, 'first.txt'), next(iter(texts.values()))[:1])
        self.workers, self.about, self.left_out = {}, {}, {}
        self.first_run, self.later = {}, {}
        self.measured = {row.name: {} for row in rows}

    def start(self, key):
        return Worker(self.programs[key], os.path.join(self.caches, key), os.path.join(self.folder, f'{key}.log'))

    def files(self, row, name):
        count = max(1, round(len(self.texts[name]) * row.share))
        path = os.path.join(self.folder, f'{name}-{count}.txt')
        return count, path if os.path.exists(path) else write(path, self.texts[name][:count])

    def drop(self, key, error):
        say(f'    left out: {error}')
        self.left_out[key] = str(error)
        worker = self.workers.pop(key, None)
        if worker:
            worker.stop()
        self.rows = [row for row in self.rows if row.program != key]

    def begin(self):
        """Starts every worker with an empty cache, and embeds all texts once. This gives the time to the first vector, the time of the first pass, and the
        vectors that are compared."""
        for key in dict.fromkeys(row.program for row in self.rows):
            say(f'==> {key}: first vector with no cache')
            worker = self.start(key)
            self.workers[key] = worker
            try:
                self.about[key], self.first_run[key] = worker.first_vector(self.first)
                say(f'    {self.first_run[key]:.2f} s on {self.about[key].get("device")}')
                for row in [row for row in self.rows if row.program == key]:
                    self.first_pass(row, worker)
            except (Failed, ValueError) as error:
                self.drop(key, error)

    def first_pass(self, row, worker):
        for name in self.texts:
            count, path = self.files(row, name)
            npy = os.path.join(self.folder, f'{slug(row.name, name)}.npy')
            request = {'texts': path, 'npy': npy, **row.request}
            answer = worker.checked(request)
            first = answer['seconds'][0]
            # The first measurement is not counted, because it may be slow for reasons that do not recur.
            again = worker.checked({'texts': path, **row.request})['seconds'][0] if first < 20 else first
            repeat = max(1, min(200, round(SECONDS_OF_A_TURN / max(again, 1e-6))))
            vectors = np.load(npy)
            if not np.isfinite(vectors).all() or len(vectors) != count:
                raise Failed(f'{name}: its vectors are {vectors.shape} and {"" if np.isfinite(vectors).all() else "not "}finite')
            self.measured[row.name][name] = {'texts': count, 'tokens': answer['tokens'], 'first_pass_s': first, 'repeat': repeat, 'vectors': vectors, 'seconds': []}
            say(f'    {row.name}, {name}: first pass {first:.2f} s, then {again:.2f} s')

    def run(self, rounds):
        for number in range(rounds):
            begun = time.perf_counter()
            # Each round begins with another row.
            first = number * len(self.rows) // max(rounds, 1)
            for row in self.rows[first:] + self.rows[:first]:
                if row.program not in self.workers:
                    continue
                for name in self.texts:
                    told = self.measured[row.name][name]
                    try:
                        answer = self.workers[row.program].checked({'texts': self.files(row, name)[1], 'repeat': told['repeat'], **row.request})
                        told['seconds'].append(statistics.fmean(answer['seconds']))
                    except Failed as error:
                        self.drop(row.program, error)
                        break
            say(f'==> round {number + 1} of {rounds}: {time.perf_counter() - begun:.0f} s')

    def end(self, starts=LATER_STARTS):
        """Ends all workers. Then starts each of them again, alone, with the cache of its first run."""
        for worker in self.workers.values():
            worker.stop()
        keys = list(self.workers)
        for turn in range(starts):
            for key in keys[turn % max(len(keys), 1):] + keys[:turn % max(len(keys), 1)]:
                worker = self.start(key)
                try:
                    self.later.setdefault(key, []).append(worker.first_vector(self.first)[1])
                except Failed as error:
                    self.left_out[f'{key}, a later start'] = str(error)
                finally:
                    worker.stop()
        shutil.rmtree(self.caches, ignore_errors=True)
        if starts:
            say('==> later starts are measured')
