"""Texts as characters and as words: a synthetic language, or any text file."""

from __future__ import annotations

import functools
from collections import Counter
from typing import NamedTuple

import numpy as np

from study.data import files
from study.errors import UserError

SYNTHETIC = "synthetic"
WORDS, LENGTH = 2000, 40_000
"""Of the synthetic language: different words, and words in its text."""
ALPHABET = 256
"""Most characters told apart; the rarer ones are all the last."""
SHORTEST = 10_000
"""Characters that a text must have."""


class Corpus(NamedTuple):
    """A text as numbers.

    Attributes:
        tokens: the characters [place], int32.
        alphabet: the characters by number, the most frequent first.
    """

    tokens: np.ndarray
    alphabet: tuple[str, ...]


def corpus(name: str) -> Corpus:
    """The characters of a text: SYNTHETIC, or a file of this name in the data folder."""
    return _corpus(_text(name))


@functools.lru_cache(maxsize=4)
def _corpus(text: str) -> Corpus:
    counts = Counter(text).most_common()
    alphabet = tuple(character for character, _ in counts[:ALPHABET])
    numbers = {character: i for i, character in enumerate(alphabet)}
    last = len(alphabet) - 1
    tokens = np.fromiter((numbers.get(c, last) for c in text), np.int32, len(text))
    return Corpus(tokens, alphabet)


def words(name: str) -> tuple[np.ndarray, int]:
    """The words of a text as numbers [place], the most frequent 0, and how many there are.

    Words are what stands between blanks, in lower case, without punctuation at the ends.
    """
    found = [w.strip(".,;:!?'\"()[]-").lower() for w in _text(name).split()]
    found = [w for w in found if w]
    numbers = {w: i for i, (w, _) in enumerate(Counter(found).most_common())}
    return np.array([numbers[w] for w in found], np.int32), len(numbers)


def require_corpus(name: str) -> None:
    """Refuses a text that is not there."""
    if name != SYNTHETIC:
        _text(name)


def _text(name: str) -> str:
    if name == SYNTHETIC:
        return synthetic()
    path = files.find(name)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8") from None
    if len(text) < SHORTEST:
        raise UserError(f"{path} has {len(text)} characters; {SHORTEST} are needed")
    return text


@functools.cache
def synthetic() -> str:
    """A language with Zipf's law and memory: about 230,000 characters, the same always.

    Word k of 2,000 is drawn with probability proportional to 1 / k; with probability 0.6
    the next word is one of eight favourites of the word before, themselves drawn by Zipf's
    law and weighted likewise. Frequent words are short. Sentences have 9 words on average.
    """
    random = np.random.default_rng(0)
    spelling = _spelling(random)
    law = 1 / np.arange(1, WORDS + 1)
    law /= law.sum()
    favourites = random.choice(WORDS, (WORDS, 8), p=law)
    drawn = random.choice(WORDS, LENGTH, p=law)
    weights = 1 / np.arange(1, 9)
    choice = random.choice(8, LENGTH, p=weights / weights.sum())
    follows, ends = random.random(LENGTH) < 0.6, random.random(LENGTH) < 1 / 9
    word, parts = 0, []
    for t in range(LENGTH):
        word = favourites[word, choice[t]] if follows[t] else drawn[t]
        parts.append(spelling[word] + (". " if ends[t] else " "))
    return "".join(parts)


def _spelling(random: np.random.Generator) -> list[str]:
    """2,000 different words of one to three syllables and more, the first the shortest."""
    consonants, vowels = "bdfghjklmnprstvwz", "aeiou"
    found: dict[str, None] = {}
    while len(found) < WORDS:
        syllables = 1 + (len(found) >= 40) + (len(found) >= 600)
        word = "".join(
            random.choice(list(consonants)) + random.choice(list(vowels))
            for _ in range(syllables)
        )
        if random.random() < 0.3:
            word += random.choice(list(consonants))
        found.setdefault(word)
    return list(found)
