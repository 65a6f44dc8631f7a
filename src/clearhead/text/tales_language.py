"""An invented second language of the tales, and sentences in both.

It differs from English in its words and by two rules:

    order      the verb stands last in its clause: "the fox found a kite in the garden" is told in the order
               "the fox a kite in the garden found"
    agreement  a noun is of one of three classes, which its last vowel shows; article and adjectives end in that vowel

So a word cannot always be translated by itself: the article's form depends on a noun that comes after an adjective, and
the verb crosses all that follows it. Names stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from clearhead.text.tales_world import CHARACTERS, PLACES

NAMES = tuple(CHARACTERS)
ANIMALS = (
    *("rabbit", "mouse", "hedgehog", "squirrel", "fox", "badger", "bear", "beaver", "mole", "goat", "hen", "duck"),
    *("pony", "cat", "dog", "owl", "frog", "lamb", "raven", "donkey", "swan", "otter", "heron", "robin"),
    *("goose", "sheep", "snail", "toad"),
)
THINGS = (
    *("kite", "drum", "ball", "boat", "lantern", "whistle", "wagon", "basket", "blanket", "book", "flute", "bell"),
    *("puppet", "doll", "box", "cup", "bowl", "jug", "vase", "plate", "lamp", "scarf", "coat", "hat"),
    *("cake", "pie", "loaf", "apple", "carrot", "cookie", "letter", "ladder", "rope", "key", "coin", "feather"),
)
ADJECTIVES = (
    *("kind", "shy", "cheerful", "curious", "quiet", "clever", "gentle", "dreamy", "busy", "polite", "merry", "brave"),
    *("red", "blue", "green", "yellow", "white", "brown", "gray", "golden", "little", "big", "new", "old"),
    *("round", "small", "bright", "heavy", "soft", "tiny", "wet", "broken", "clean", "dry", "pretty", "strange"),
)
VERBS = (
    *("found", "lost", "carried", "saw", "heard", "followed", "washed", "mended", "hid", "painted", "pulled", "pushed"),
    *("brought", "watched", "counted", "drew", "dropped", "kept", "wanted", "praised", "remembered", "forgot"),
    *("touched", "cleaned", "sold", "bought", "lifted", "borrowed", "guarded", "hugged", "chased", "admired"),
)
TIMES = ("yesterday", "today", "once", "soon", "later", "suddenly", "again", "often")
PREPOSITIONS = ("in", "on", "at")
ARTICLES = ("the", "a")
CONJUNCTION = "and"

CLASSES = "aou"
_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "kl", "st")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("l", "m", "n", "r", "s", "t", "k")


def _stems(number: int) -> Iterator[str]:
    """Yield that many different stems, each an open syllable and a closed one."""
    for place in range(number):
        # Steps that share no divisor with what they go round in, so that neighbours sound unlike each other.
        first, second = _ONSETS[place * 7 % len(_ONSETS)], _ONSETS[(place * 5 + place // len(_ONSETS)) % len(_ONSETS)]
        vowels = _VOWELS[place * 3 % len(_VOWELS)], _VOWELS[(place * 2 + place // 5) % len(_VOWELS)]
        yield first + vowels[0] + second + vowels[1] + _CODAS[place * 3 % len(_CODAS)]


def _lexicon() -> dict[str, str]:
    """Return every English word's invented word; nouns with their class vowel, adjectives and articles without."""
    nouns = (*ANIMALS, *THINGS, *PLACES)
    others = (*ADJECTIVES, *VERBS, *TIMES, *PREPOSITIONS, *ARTICLES, CONJUNCTION)
    stems = _stems(len(nouns) + len(others))
    with_class = {noun: next(stems) + CLASSES[place % len(CLASSES)] for place, noun in enumerate(nouns)}
    return with_class | dict(zip(others, stems, strict=True))


LEXICON = _lexicon()
"""English to invented words; an adjective's or an article's is completed by the vowel of its noun."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A name, or a noun with its article and adjectives."""

    noun: str
    before: tuple[str, ...] = ()

    def english(self) -> list[str]:
        """Return the words in English."""
        return [*self.before, self.noun]

    def invented(self) -> list[str]:
        """Return the words in the invented language: those before the noun agree with it."""
        if not self.before:
            return [self.noun]
        noun = LEXICON[self.noun]
        return [*(LEXICON[word] + noun[-1] for word in self.before), noun]


@dataclass(frozen=True, slots=True)
class Clause:
    """What is done to something, maybe somewhere."""

    verb: str
    what: Phrase
    preposition: str = ""
    where: Phrase | None = None

    def english(self) -> list[str]:
        """Return the words in English, the verb first."""
        place = [self.preposition, *self.where.english()] if self.where else []
        return [self.verb, *self.what.english(), *place]

    def invented(self) -> list[str]:
        """Return the words in the invented language, the verb last."""
        place = [LEXICON[self.preposition], *self.where.invented()] if self.where else []
        return [*self.what.invented(), *place, LEXICON[self.verb]]


@dataclass(frozen=True, slots=True)
class Sentence:
    """Somebody, and one or two things that they did."""

    who: Phrase
    clauses: tuple[Clause, ...]
    time: str = ""

    def english(self) -> str:
        """Return the sentence in English."""
        clauses = [clause.english() for clause in self.clauses]
        return written(self.time, self.who.english(), clauses, CONJUNCTION)

    def invented(self) -> str:
        """Return the sentence in the invented language."""
        clauses = [clause.invented() for clause in self.clauses]
        return written(LEXICON.get(self.time, ""), self.who.invented(), clauses, LEXICON[CONJUNCTION])


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence in English and in the invented language."""

    source: str
    target: str


def written(time: str, who: list[str], clauses: list[list[str]], conjunction: str) -> str:
    """Join the parts of a sentence, with a capital letter and a full stop."""
    text = f" {conjunction} ".join(" ".join(clause) for clause in clauses)
    text = f"{f'{time}, ' if time else ''}{' '.join(who)} {text}."
    return text[0].upper() + text[1:]


def pair(seed: int, index: int) -> Pair:
    """Return sentence number `index` of the endless collection that belongs to `seed`, in both languages."""
    random = Random(f"pair {seed} {index}")
    who = Phrase(random.choice(NAMES)) if random.random() < 0.3 else _described(random, ANIMALS)
    clauses = tuple(_clause(random) for _ in range(random.choice((1, 1, 2))))
    sentence = Sentence(who, clauses, random.choice(TIMES) if random.random() < 0.4 else "")
    return Pair(sentence.english(), sentence.invented())


def pairs(num: int, seed: int) -> Iterator[Pair]:
    """Yield pairs 0, 1, 2, ... of a seed, as many as asked for."""
    return (pair(seed, index) for index in range(num))


def pairs_of_size(num_bytes: int, seed: int) -> Iterator[Pair]:
    """Yield pairs 0, 1, 2, ... of a seed until they have so many bytes of UTF-8."""
    total = 0
    for index in count():
        if total >= num_bytes:
            return
        made = pair(seed, index)
        total += len(made.source.encode()) + len(made.target.encode())
        yield made


def _clause(random: Random) -> Clause:
    what = _described(random, (*THINGS, *ANIMALS))
    verb = random.choice(VERBS)
    if random.random() < 0.5:
        return Clause(verb, what)
    name, place = random.choice(list(PLACES.items()))
    preposition = str(place["in"]).split()[0]
    return Clause(verb, what, preposition, Phrase(name, ("the",)))


def _described(random: Random, nouns: tuple[str, ...]) -> Phrase:
    adjectives = random.sample(ADJECTIVES, random.choice((0, 1, 1, 2)))
    article = random.choice(ARTICLES)
    # "a" would have to become "an" before some of the nouns and adjectives, which is a rule of English alone.
    chosen = random.choice(nouns)
    starts_with_vowel = (adjectives[0] if adjectives else chosen)[0] in "aeiou"
    return Phrase(chosen, ("the" if starts_with_vowel else article, *adjectives))
