from __future__ import annotations

import re

import pytest

from clearhead.text import tales_language as language
from clearhead.text.tales_language import LEXICON, pair, pairs, pairs_of_size

NOUNS = {*language.ANIMALS, *language.THINGS, *language.PLACES}
AGREEING = {*language.ADJECTIVES, *language.ARTICLES}


def translated(sentence: str) -> str:
    """Translate by the two rules, word by word: a second way, which knows no phrases."""
    words = re.findall(r"\w+|[.,]", sentence)
    words[0] = words[0] if words[0] in language.NAMES else words[0].lower()
    out: list[str] = []
    waiting: list[str] = []
    verb = ""
    for word in words:
        if word in language.VERBS:
            verb = LEXICON[word]
        elif word in AGREEING:
            waiting.append(LEXICON[word])
        elif word in NOUNS:
            vowel = LEXICON[word][-1]
            out += [*(stem + vowel for stem in waiting), LEXICON[word]]
            waiting.clear()
        elif word in (language.CONJUNCTION, "."):
            out.append(verb)
            out.append(LEXICON.get(word, word))
        else:
            out.append(LEXICON.get(word, word))
    text = re.sub(r" ([.,])", r"\1", " ".join(out))
    return text[0].upper() + text[1:]


def test_it_has_at_least_150_words_and_no_two_alike() -> None:
    assert len(LEXICON) >= 150
    forms = [word + vowel for word in LEXICON for vowel in language.CLASSES if word in AGREEING]
    spelled = [LEXICON[word] for word in LEXICON if word not in AGREEING]
    spelled += [LEXICON[word] + vowel for word in AGREEING for vowel in language.CLASSES]
    assert len(set(spelled)) == len(spelled) == len(LEXICON) - len(AGREEING) + len(forms)
    assert not set(spelled) & {*LEXICON, *language.NAMES}


def test_every_sentence_follows_the_two_rules() -> None:
    for made in pairs(500, seed=3):
        assert translated(made.source) == made.target


@pytest.mark.parametrize("rule", ["order", "agreement"])
def test_sentences_that_break_a_rule_are_told_from_right_ones(rule: str) -> None:
    """Else the test above would pass for a language without rules."""
    changed = 0
    for made in pairs(200, seed=3):
        words = made.target.removesuffix(".").split(" ")
        if rule == "order":
            words = [words[-1].lower(), *words[:-1]]
        else:
            words = [re.sub("[aou]$", "a", word) for word in words]
        changed += " ".join(words) + "." != translated(made.source)
    assert changed > 150


def test_a_pair_is_a_function_of_seed_and_number() -> None:
    assert pair(5, 11) == pair(5, 11)
    assert pair(5, 11) != pair(5, 12)
    assert pair(5, 11) != pair(7, 11)
    assert list(pairs(13, 5))[11] == pair(5, 11)


def test_a_size_is_reached_and_not_passed_by_more_than_a_pair() -> None:
    made = list(pairs_of_size(2000, 5))
    sizes = [len((each.source + each.target).encode()) for each in made]
    assert sum(sizes[:-1]) < 2000 <= sum(sizes)


def test_all_words_are_used() -> None:
    said = {word for made in pairs(1500, 1) for word in re.findall(r"\w+", made.source.lower())}
    assert {*LEXICON} <= said
