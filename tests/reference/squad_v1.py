"""The definition of SQuAD 1.1's evaluation script, written again from its description.

Rajpurkar et al., 2016 (arXiv:1606.05250), section 6.1, and the published script: an answer is made lower case, loses
its ASCII punctuation, then the words a, an and the, then superfluous white space, in this order. EM is 100 for equal
answers; F1 that of two bags of words, 0 without a common word; both are the best over the right answers, averaged over
the questions.
"""

PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def words(answer: str) -> list[str]:
    bare = "".join(character for character in answer.lower() if character not in PUNCTUATION)
    kept, word = [], ""
    for character in bare + " ":  # an article is a whole run of word characters
        if character.isalnum() or character == "_":
            word += character
            continue
        kept.append(" " if word in ("a", "an", "the") else word)
        kept.append(character)
        word = ""
    return "".join(kept).split()


def exact_match(prediction: str, answers: list[str]) -> float:
    return max(100.0 * (words(prediction) == words(answer)) for answer in answers)


def f1(prediction: str, answers: list[str]) -> float:
    return max(_f1(words(prediction), words(answer)) for answer in answers)


def _f1(found: list[str], right: list[str]) -> float:
    left, common = list(right), 0
    for word in found:
        if word in left:
            left.remove(word)
            common += 1
    if common == 0:
        return 0.0
    precision, recall = common / len(found), common / len(right)
    return 100.0 * 2 * precision * recall / (precision + recall)
