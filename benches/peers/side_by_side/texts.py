"""Makes the texts to time: English sentences from templates and a seed, the same on every machine.

    python3 -m side_by_side.texts sentences 5        prints five of them

Sentences have 5 to 60 words, with a mean of 18 and a skewed distribution like that of real text. Passages consist of sentences with about 155 words
in total, which are about 200 tokens of a BERT tokenizer.
"""
import random, sys

PEOPLE = ('the baker', 'a young engineer', 'the old captain', 'our neighbour', 'the committee', 'a visiting doctor', 'the gardener', 'two students', 'the night nurse',
          'a retired teacher', 'the bus driver', 'her younger brother', 'the whole crew', 'a careful editor', 'the librarian', 'several farmers')
VERBS = ('repaired', 'described', 'measured', 'painted', 'remembered', 'replaced', 'sold', 'carried', 'examined', 'borrowed', 'finished', 'forgot', 'explained', 'collected',
         'compared', 'returned')
THINGS = ('bridge', 'letter', 'engine', 'orchard', 'recipe', 'telescope', 'contract', 'harbour', 'map', 'piano', 'report', 'bicycle', 'kettle', 'library', 'window', 'garden',
          'timetable', 'lantern', 'fence', 'notebook', 'well', 'mill', 'roof', 'clock')
QUALITIES = ('broken', 'heavy', 'expensive', 'small', 'forgotten', 'blue', 'reliable', 'dusty', 'new', 'borrowed', 'wooden', 'unusual', 'quiet', 'narrow', 'old', 'careful')
PLACES = ('near the station', 'behind the school', 'on the north coast', 'in the next valley', 'across the river', 'at the edge of town', 'under the stairs', 'beside the market',
          'in a warm kitchen', 'along the canal')
TIMES = ('before breakfast', 'last winter', 'every second Tuesday', 'during the storm', 'at half past six', 'for eleven days', 'in early September', 'after the concert',
         'as soon as the rain stopped', 'without any hurry')
LINKS = ('because', 'although', 'and then', 'while', 'so that', 'but only after', 'until', 'which surprised nobody, since', 'before', 'where')
ENDS = ('.', '.', '.', '.', '!', '?')


class Maker:
    def __init__(self, seed):
        # Only random() is guaranteed to return the same numbers in every version of Python.
        self.random = random.Random(seed).random

    def one(self, words):
        return words[int(self.random() * len(words))]

    def thing(self):
        quality = self.one(QUALITIES) + ' ' if self.random() < 0.6 else ''
        number = str(2 + int(self.random() * 300)) if self.random() < 0.15 else None
        return f'{number} {quality}{self.one(THINGS)}s' if number else f'the {quality}{self.one(THINGS)}'

    def clause(self):
        parts = [self.one(PEOPLE), self.one(VERBS), self.thing()]
        if self.random() < 0.5:
            parts.append(self.one(PLACES))
        if self.random() < 0.4:
            parts.append(self.one(TIMES))
        return ' '.join(parts)

    def sentence(self, longest=60):
        # The number of words is 5 plus an exponentially distributed number with the mean 13.
        aim, rest = 5, self.random()
        while rest < 0.926 and aim < longest:
            aim, rest = aim + 1, self.random()
        words = self.clause().split()
        while len(words) < aim:
            words += f'{self.one(LINKS)} {self.clause()}'.split()
        words = words[:max(aim, 5)]
        text = ' '.join(words).rstrip(',')
        return text[0].upper() + text[1:] + self.one(ENDS)

    def passage(self, words=155):
        text = self.sentence()
        while len(text.split()) < words:
            text += ' ' + self.sentence()
        return ' '.join(text.split()[:words + int(self.random() * 20)])


def sentences(count, seed=1):
    maker = Maker(seed)
    return [maker.sentence() for _ in range(count)]


def passages(count, seed=2, words=155):
    maker = Maker(seed)
    return [maker.passage(words) for _ in range(count)]


def shuffled(texts, seed=4):
    """Returns the texts in another order, which is the same on every machine."""
    order = random.Random(seed).random
    return [text for _, text in sorted(((order(), text) for text in texts), key=lambda pair: pair[0])]


def vocabulary():
    """Returns every word that a text can contain except numbers, in lower case and without punctuation."""
    phrases = (*PEOPLE, *VERBS, *QUALITIES, *PLACES, *TIMES, *LINKS, *THINGS, *(f'{thing}s' for thing in THINGS), 'the')
    return sorted({word.strip(',').lower() for phrase in phrases for word in phrase.split()})


if __name__ == '__main__':
    print('\n'.join({'sentences': sentences, 'passages': passages}[sys.argv[1]](int(sys.argv[2]))))
