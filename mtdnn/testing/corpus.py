"""A generated corpus in controlled English: labels right by construction, deterministic from a seed.

Five tasks for a quickstart without hub or files, and two whose targets lie inside a text (``tagging``, ``reading``).
``everyday_nli`` and ``science_nli`` share their logic (general and special nouns, dropped modifiers, negation,
quantifiers, numbers, roles, places inside places) and hardly a content word: the second is the domain shift of the
first. In both, a hypothesis is drawn first and a premise is made for the label that is due, so that the hypothesis
alone says little.
"""

import hashlib
import random
from collections.abc import Callable
from typing import Any

from mtdnn.testing import corpus_words as words
from mtdnn.testing.corpus_words import Domain

CORPORA = ("everyday_nli", "science_nli", "similarity", "answer_ranking", "acceptability", "tagging", "reading")
SPLITS = ("train", "validation", "test")
SIZES = {"train": 2000, "validation": 400, "test": 400}
RANKING_SIZES = {"train": 500, "validation": 120, "test": 120}
SHARES = {"train": range(0, 70), "validation": range(70, 85), "test": range(85, 100)}

Rows = list[dict[str, Any]]
Pair = tuple[str, str]


def rows(name: str, split: str, *, size: int | None = None, seed: int = 0) -> Rows:
    """The first ``size`` rows of a split (in ranking: groups); a smaller size is a prefix of a larger one.

    :raises ValueError: for an unknown corpus or split.
    """
    if name not in CORPORA or split not in SPLITS:
        raise ValueError(f"unknown corpus or split '{name}/{split}'; corpora {CORPORA}, splits {SPLITS}")
    wanted = size or (RANKING_SIZES if name == "answer_ranking" else SIZES)[split]
    rng = random.Random(f"{name}/{split}/{seed}")
    found: Rows = []
    seen: set[str] = set()
    while len(seen) < wanted:
        unit = MAKERS[name](rng, len(seen))
        key = "|".join(str(row[column]) for row in unit for column in KEYS if column in row)
        if key not in seen and _place(key) in SHARES[split]:
            group = {"group": len(seen)} if "answer" in unit[0] else {}
            found += [{"uid": f"{split}-{len(seen)}-{place}", **group, **row} for place, row in enumerate(unit)]
            seen.add(key)
    return found


def _place(key: str) -> int:
    """A text's place among a hundred, the same on every machine: it decides the split."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % 100


# Inference


def nli(rng: random.Random, turn: int, *, domain: Domain, labels: tuple[str, ...]) -> Rows:
    """A pair of the label that is due. ``labels`` are the names of entailment, neutral and contradiction."""
    due = (0, 1, 2)[turn % 3] if len(set(labels)) == 3 else (0, 1, 0, 2)[turn % 4]
    phenomenon = rng.choice(PHENOMENA)
    premise, hypothesis = phenomenon(rng, domain, due)
    opening = rng.choice(domain.frames)
    premise = sentence(opening + premise)
    name = phenomenon.__name__.removeprefix("of_")
    return [{"premise": premise, "hypothesis": sentence(hypothesis), "label": labels[due], "phenomenon": name}]


def sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def plural(noun: str) -> str:
    irregular = {"child": "children", "bacterium": "bacteria", "fungus": "fungi", "alga": "algae", "moss": "mosses"}
    last = noun.split()[-1]
    if last in irregular:
        return noun.removesuffix(last) + irregular[last]
    return noun[:-1] + "ies" if noun[-1] == "y" and noun[-2] not in "aeiou" else noun + "s"


def special(rng: random.Random, domain: Domain) -> tuple[str, str]:
    """(general noun, one of its special ones)."""
    general = rng.choice(sorted(domain.kinds))
    return general, rng.choice(domain.kinds[general])


def excluding(rng: random.Random, groups: tuple[tuple[Any, ...], ...]) -> tuple[Any, Any]:
    """Two members of one group: they cannot both hold."""
    first, second = rng.sample(rng.choice(groups), 2)
    return first, second


def of_nouns(rng: random.Random, domain: Domain, due: int) -> Pair:
    """Special and general nouns, with a dropped adjective."""
    general, noun = special(rng, domain)
    doing, other = excluding(rng, domain.doings)
    place, quality = rng.choice(rng.choice(domain.places)), rng.choice(domain.qualities)
    if due == 1:
        return f"the {quality} {general} {doing[0]} {place}", f"the {noun} {doing[0]} {place}"
    stated = rng.choice((noun, general))
    premise = f"the {quality} {noun} {(doing if due == 0 else other)[0]} {place}"
    return premise, f"the {stated} {doing[0]} {place}"


def of_negation(rng: random.Random, domain: Domain, due: int) -> Pair:
    """Doings that exclude each other, and "not"."""
    _, noun = special(rng, domain)
    doing, other = excluding(rng, domain.doings)
    place = rng.choice(rng.choice(domain.places))
    negated = rng.random() < 0.5
    hypothesis = f"it is not true that the {noun} {doing[0]}" if negated else f"the {noun} {doing[0]}"
    if due == 1:
        unrelated = rng.choice([group for group in domain.doings if doing not in group])
        return f"the {noun} {rng.choice(unrelated)[0]} {place}", hypothesis
    holds = (due == 0) != negated
    return f"the {noun} {(doing if holds else other)[0]} {place}", hypothesis


def of_quantity(rng: random.Random, domain: Domain, due: int) -> Pair:
    """All, some and none."""
    general, noun = special(rng, domain)
    _, stranger = special(rng, domain)
    doing, other = excluding(rng, domain.doings)
    place = rng.choice(rng.choice(domain.places))
    wide = rng.random() < 0.5
    hypothesis = f"{'all of' if wide else 'some of'} the {plural(noun)} {place} {doing[1]}"
    if due == 0:
        return f"each of the {plural(noun)} {place} {doing[0]}", hypothesis
    if due == 1:
        about = noun if wide else stranger if stranger != noun else general
        return f"{'a few of' if wide else 'all of'} the {plural(about)} {place} {doing[1]}", hypothesis
    return f"each of the {plural(noun)} {place} {other[0]}", hypothesis


def of_numbers(rng: random.Random, domain: Domain, due: int) -> Pair:
    """Exact numbers and lower bounds."""
    _, noun = special(rng, domain)
    doing = rng.choice(rng.choice(domain.doings))
    place = rng.choice(rng.choice(domain.places))
    bound = rng.randrange(1, 5)
    hypothesis = f"at least {words.NUMBERS[bound]} {plural(noun)} {doing[1]} {place}"
    if due == 1:
        return f"several {plural(noun)} {doing[1]} {place}", hypothesis
    counted = rng.randrange(bound, 6) if due == 0 else rng.randrange(bound)
    return f"exactly {words.NUMBERS[counted]} {plural(noun)} {doing[1]} {place}", hypothesis


def of_roles(rng: random.Random, domain: Domain, due: int) -> Pair:
    """Who does it to whom, in the active and in the passive."""
    (_, first), (_, second) = special(rng, domain), special(rng, domain)
    while second == first:
        _, second = special(rng, domain)
    active, passive = rng.choice(domain.deeds)
    place = rng.choice(rng.choice(domain.places))
    hypothesis = rng.choice((f"the {first} {active} the {second}", f"the {second} {passive} the {first}"))
    if due == 0:
        stated = rng.choice((f"the {second} {passive} the {first}", f"the {first} {active} the {second}"))
        return f"{place} {stated}", hypothesis
    if due == 1:
        return f"{place} the {second} {active} the {first}", hypothesis
    return f"{place} nothing {active} the {second}", hypothesis


def of_places(rng: random.Random, domain: Domain, due: int) -> Pair:
    """Places inside larger places, and places that exclude each other."""
    _, noun = special(rng, domain)
    doing = rng.choice(rng.choice(domain.doings))
    inner = rng.choice(sorted(domain.contained))
    outer = domain.contained[inner]
    quality = rng.choice(domain.qualities)
    if due == 0:
        return f"the {quality} {noun} {doing[0]} {inner}", f"the {noun} {doing[0]} {outer}"
    if due == 1:
        return f"the {quality} {noun} {doing[0]} {outer}", f"the {noun} {doing[0]} {inner}"
    siblings = next(group for group in domain.places if inner in group)
    other = rng.choice([place for place in siblings if place != inner])
    return f"the {quality} {noun} {doing[0]} {other}", f"the {noun} {doing[0]} {inner}"


PHENOMENA: tuple[Callable[[random.Random, Domain, int], Pair], ...] = (
    of_nouns,
    of_negation,
    of_quantity,
    of_numbers,
    of_roles,
    of_places,
)


# The other tasks


def similarity(rng: random.Random, turn: int) -> Rows:
    """A score of 5 less what each difference costs: what is done 2, who 1.5, where 1, when 0.5."""
    slots = (words.WHO, words.WHAT, words.PLACE, words.TIME)
    costs = (1.5, 2.0, 1.0, 0.5)
    differs = [bool((turn % 16) >> slot & 1) for slot in range(4)]
    first, second = [], []
    for slot, differ in zip(slots, differs, strict=True):
        one = rng.choice(slot)
        two = rng.choice([each for each in slot if each != one]) if differ else one
        first.append(rng.choice(one))
        second.append(rng.choice(two))
    score = 5.0 - sum(cost for cost, differ in zip(costs, differs, strict=True) if differ)
    return [{"sentence1": sentence(" ".join(first)), "sentence2": sentence(" ".join(second)), "label": score}]


def answer_ranking(rng: random.Random, turn: int) -> Rows:
    """A question about one fact, and 3 to 6 sentences of which one or two answer it."""
    who, (verb, past), thing = rng.choice(words.PEOPLE), rng.choice(words.ACTS), rng.choice(words.OBJECTS)
    where, when = rng.choice(words.WHERE), rng.choice(words.WHEN)
    asked = ("where", "when", "who")[turn % 3]
    question = f"Who {past} {thing} {when}?" if asked == "who" else f"{asked.capitalize()} did {who} {verb} {thing}?"
    told = {"where": where, "when": when}
    extra = rng.choice(("", " with a friend", " without any help"))
    right = [f"{who} {past} {thing} {told.get(asked, when)}{extra}"]
    if rng.random() < 0.3:
        right.append(f"{told.get(asked, when).capitalize()} {thing} was {past} by {who}")
    stranger = rng.choice([each for each in words.PEOPLE if each != who])
    other_act = rng.choice([each for each in words.ACTS if each[0] != verb])
    other_thing = rng.choice([each for each in words.OBJECTS if each != thing])
    other = {"where": when, "when": where}.get(asked, where)  # says something else than what was asked
    wrong = [
        f"{who} {past} {other_thing} {told.get(asked, when)}{extra}",
        f"{who} {other_act[1]} {thing} {told.get(asked, when)}",
        f"{who} {past} {thing} {other}{extra}" if asked != "who" else f"{who} saw {thing} {when}",
        f"{stranger} {past} {thing} {told.get(asked, when)}" if asked != "who" else f"{stranger} liked {thing} {when}",
        f"{stranger} {other_act[1]} {other_thing} {told.get(asked, when)}",
    ]
    candidates = [(text, "1") for text in right] + [(text, "0") for text in rng.sample(wrong, rng.randint(2, 4))]
    rng.shuffle(candidates)
    return [{"question": question, "answer": f"{text}.", "label": label} for text, label in candidates]


def acceptability(rng: random.Random, turn: int) -> Rows:
    """A grammatical sentence, or one with a single fault."""
    good = turn % 2 == 0
    text = rng.choice((_agreement, _reflexive, _number, _order))(rng, good)
    return [{"sentence": sentence(text), "label": "acceptable" if good else "unacceptable"}]


def _agreement(rng: random.Random, good: bool) -> str:
    subject, number, _ = rng.choice(words.SUBJECTS)
    right = "was" if number == "singular" else "were"
    verb = right if good else {"was": "were", "were": "was"}[right]
    return f"{subject} {verb} {rng.choice(words.FEELINGS)} {rng.choice(words.SETTINGS)}"


def _reflexive(rng: random.Random, good: bool) -> str:
    subject, _, pronoun = rng.choice(words.SUBJECTS)
    wrong = rng.choice(sorted({each for _, _, each in words.SUBJECTS} - {pronoun}))
    return f"{subject} {rng.choice(words.REFLEXIVE_VERBS)} {pronoun if good else wrong} {rng.choice(words.SETTINGS)}"


def _number(rng: random.Random, good: bool) -> str:
    subject, _, _ = rng.choice(words.SUBJECTS)
    single, many = rng.choice(words.THINGS)
    determiner, noun = rng.choice((("a", single), ("these", many), ("this", single), ("several", many)))
    wrong = many if noun == single else single
    return (
        f"{subject} {rng.choice(words.TRANSITIVE)} {determiner} {noun if good else wrong} {rng.choice(words.SETTINGS)}"
    )


def _order(rng: random.Random, good: bool) -> str:
    subject, _, _ = rng.choice(words.SUBJECTS)
    verb, (single, _), setting = rng.choice(words.TRANSITIVE), rng.choice(words.THINGS), rng.choice(words.SETTINGS)
    if good:
        return f"{subject} {verb} the {single} {setting}"
    return rng.choice(
        (
            f"{subject} the {single} {verb} {setting}",
            f"{subject} {verb} {single} the {setting}",
            f"{subject} {verb} the the {single} {setting}",
            f"{subject} the {single} {setting}",
        )
    )


def tagging(rng: random.Random, turn: int) -> Rows:
    """A sentence whose people, places and times are labelled, in IOB2; its words are parted by spaces."""
    who, other = rng.sample(words.PEOPLE, 2)
    place, time = _without_preposition(rng.choice(words.WHERE)), _without_preposition(rng.choice(words.WHEN))
    did = (f"{rng.choice(words.ACTS)[1]} {rng.choice(words.OBJECTS)}", "")
    where, when = [(place[0], ""), (place[1], "PLACE")], [(time[0], ""), (time[1], "TIME")]
    chunks = (
        [(who, "PER"), did, *where, *when],
        [*when, (who, "PER"), did, *where],
        [*where, (who, "PER"), did, ("with", ""), (other, "PER")],
    )[turn % 3]
    text = " ".join(chunk for chunk, _ in chunks if chunk)
    return [{"text": f"{text} .", "tags": [tag for chunk in chunks for tag in _iob2(*chunk)] + ["O"]}]


def _without_preposition(phrase: str) -> Pair:
    """(preposition or nothing, the rest)"""
    first, _, rest = phrase.partition(" ")
    return ("", phrase) if first == "last" else (first, rest)


def _iob2(chunk: str, kind: str) -> list[str]:
    count = len(chunk.split())
    return [f"{'I' if place else 'B'}-{kind}" if kind else "O" for place in range(count)]


def reading(rng: random.Random, turn: int) -> Rows:
    """A question about one of three facts, which are told one after the other; places and times have two answers."""
    asked = ("Where", "When", "Who")[turn % 3]
    told, answers = [], []
    people, things = rng.sample(words.PEOPLE, 3), rng.sample(words.OBJECTS, 3)
    chosen = rng.randrange(3)
    for number, (who, thing) in enumerate(zip(people, things, strict=True)):
        (verb, past), where, when = rng.choice(words.ACTS), rng.choice(words.WHERE), rng.choice(words.WHEN)
        told.append(f"{who} {past} {thing} {where} {when}.")
        if number == chosen:
            question = f"Who {past} {thing}?" if asked == "Who" else f"{asked} did {who} {verb} {thing}?"
            phrase = {"Where": where, "When": when, "Who": who}[asked]
            answers = [phrase] if asked == "Who" else [_without_preposition(phrase)[1], phrase]
            before = sum(len(fact) + 1 for fact in told[:number])
            starts = [before + told[number].index(phrase) + len(phrase) - len(answer) for answer in answers]
    text = " ".join(told)
    return [{"question": question, "context": text, "answers": {"text": answers, "answer_start": starts}}]


def everyday_nli(rng: random.Random, turn: int) -> Rows:
    return nli(rng, turn, domain=words.EVERYDAY, labels=("entailment", "neutral", "contradiction"))


def science_nli(rng: random.Random, turn: int) -> Rows:
    """Two ways: what does not follow is neutral, whether it contradicts or not."""
    return nli(rng, turn, domain=words.SCIENCE, labels=("entails", "neutral", "neutral"))


KEYS = ("question", "answer", "premise", "hypothesis", "sentence1", "sentence2", "sentence", "text", "context")
MAKERS: dict[str, Callable[[random.Random, int], Rows]] = {
    "everyday_nli": everyday_nli,
    "science_nli": science_nli,
    "similarity": similarity,
    "answer_ranking": answer_ranking,
    "acceptability": acceptability,
    "tagging": tagging,
    "reading": reading,
}
