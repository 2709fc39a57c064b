"""The generated corpus: frozen, right, balanced, without leaks or shortcuts."""

import hashlib
import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from mtdnn.testing import corpus

# Frozen before SMART was first run on it: a change here is a change of the quickstart's data.
FROZEN = {
    "everyday_nli": "ac3f64c6707f",
    "science_nli": "d740a3b90060",
    "similarity": "b6b16ca4eead",
    "answer_ranking": "ab98f8086035",
    "acceptability": "7d7bed4693aa",
    "tagging": "1672453f8a50",
    "reading": "b1cefd8851d7",
}
INFERENCE = {"everyday_nli": 1 / 3, "science_nli": 1 / 2}


def texts(row):
    return tuple(value for key, value in row.items() if key in corpus.KEYS)


def words(text):
    return set(re.findall("[a-z]+", text.casefold()))


@pytest.mark.parametrize("name", corpus.CORPORA)
def test_the_corpus_is_the_same_on_every_machine(name):
    text = json.dumps(corpus.rows(name, "test"), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == FROZEN[name]


@pytest.mark.parametrize("name", corpus.CORPORA)
def test_a_smaller_size_is_a_prefix(name):
    few, many = (corpus.rows(name, "train", size=size) for size in (10, 40))
    assert many[: len(few)] == few


@pytest.mark.parametrize("name", corpus.CORPORA)
def test_no_text_stands_in_two_splits_or_twice_in_one(name):
    splits = [[texts(row) for row in corpus.rows(name, split)] for split in corpus.SPLITS]
    if name == "answer_ranking":  # a question and one of its answers may recur; a whole group does not
        grouped = []
        for split in corpus.SPLITS:
            groups = defaultdict(list)
            for row in corpus.rows(name, split):
                groups[row["group"]].append(texts(row))
            grouped.append([tuple(group) for group in groups.values()])
        splits = grouped
    everything = [each for split in splits for each in split]
    assert len(everything) == len(set(everything))


@pytest.mark.parametrize("name", ["everyday_nli", "science_nli", "acceptability"])
def test_classes_are_balanced(name):
    counts = Counter(row["label"] for row in corpus.rows(name, "train"))
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("name", INFERENCE)
def test_the_hypothesis_alone_says_little(name):
    train, test = corpus.rows(name, "train"), corpus.rows(name, "test")
    vectorizer = CountVectorizer(ngram_range=(1, 2))
    model = LogisticRegression(max_iter=500)
    model.fit(vectorizer.fit_transform([row["hypothesis"] for row in train]), [row["label"] for row in train])
    score = model.score(vectorizer.transform([row["hypothesis"] for row in test]), [row["label"] for row in test])
    assert score < INFERENCE[name] + 0.12  # measured: 40.5 % and 58.5 %


@pytest.mark.parametrize("name", INFERENCE)
def test_word_overlap_alone_is_not_enough(name):
    def features(rows):
        pairs = [(words(row["premise"]), words(row["hypothesis"])) for row in rows]
        return np.array([[len(p & h) / len(h), len(p & h) / len(p), len(h - p), len(p - h)] for p, h in pairs])

    train, test = corpus.rows(name, "train"), corpus.rows(name, "test")
    model = LogisticRegression(max_iter=500).fit(features(train), [row["label"] for row in train])
    assert model.score(features(test), [row["label"] for row in test]) < 0.75  # measured: 43.8 % and 68.3 %


def test_the_two_domains_share_function_words_only():
    vocabularies = [
        set().union(*(words(row["premise"] + " " + row["hypothesis"]) for row in corpus.rows(name, "train")))
        for name in INFERENCE
    ]
    shared = vocabularies[0] & vocabularies[1]
    assert not {word for word in shared if len(word) > 7}  # "exactly" is the longest
    assert len(shared) < 0.16 * len(vocabularies[0])


def test_numbers_entail_what_arithmetic_says():
    names = ("two", "three", "four", "five", "six", "seven")
    checked = 0
    for row in corpus.rows("everyday_nli", "train"):
        exact, least = (
            re.search(f"{word} ({'|'.join(names)}) ", row[key].casefold())
            for word, key in (("exactly", "premise"), ("at least", "hypothesis"))
        )
        if row["phenomenon"] == "numbers" and exact and least:
            follows = names.index(exact[1]) >= names.index(least[1])
            assert row["label"] == ("entailment" if follows else "contradiction")
            checked += 1
    assert checked > 100


def test_swapped_roles_are_never_entailed():
    for row in corpus.rows("everyday_nli", "train"):
        active = re.search(r"the (\w+) is (\w+ing) the (\w+)", row["premise"])
        if row["phenomenon"] == "roles" and active and row["label"] == "entailment":
            doer, doing, other = active.groups()
            assert f"{doer} is {doing} the {other}" in row["hypothesis"] or f"{other} is being" in row["hypothesis"]


def test_every_question_has_right_and_wrong_answers():
    groups = defaultdict(list)
    for row in corpus.rows("answer_ranking", "train"):
        groups[row["group"]].append(row["label"])
    assert len(groups) == 500
    assert all(1 <= labels.count("1") <= 2 and 3 <= len(labels) <= 6 for labels in groups.values())


def test_every_word_has_a_label_in_iob2():
    for row in corpus.rows("tagging", "train"):
        assert len(row["text"].split()) == len(row["tags"])
        for before, label in zip(["O", *row["tags"]], row["tags"], strict=False):
            assert not label.startswith("I-") or before[2:] == label[2:]
    counts = Counter(label for row in corpus.rows("tagging", "train") for label in row["tags"])
    assert set(counts) == {"O", "B-PER", "B-PLACE", "I-PLACE", "B-TIME", "I-TIME"}


def test_every_answer_stands_where_it_should_and_the_question_has_one():
    rows = corpus.rows("reading", "train")
    for row in rows:
        texts, starts = row["answers"]["text"], row["answers"]["answer_start"]
        assert all(row["context"].startswith(text, start) for text, start in zip(texts, starts, strict=True))
        name = row["question"].split()[2]  # "Where did Anna ..."; "Who bought the boat?" names a thing
        thing = row["question"].rstrip("?").split(" the ")[1]
        facts = [fact for fact in row["context"].split(".") if f"the {thing}" in fact]
        assert len(facts) == 1
        assert texts[0] in facts[0]
        assert row["question"].startswith("Who") or name in facts[0]
    first = Counter(row["question"].split()[0] for row in rows)
    assert max(first.values()) - min(first.values()) <= 1


def test_scores_lie_between_0_and_5():
    scores = {row["label"] for row in corpus.rows("similarity", "train")}
    assert (min(scores), max(scores)) == (0.0, 5.0)
    assert len(scores) >= 8


def test_an_unknown_corpus_or_split_is_refused():
    with pytest.raises(ValueError, match="unknown corpus or split 'nli/train'"):
        corpus.rows("nli", "train")
    with pytest.raises(ValueError, match="unknown corpus or split 'similarity/dev'"):
        corpus.rows("similarity", "dev")
