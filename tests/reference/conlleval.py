"""Chunks as conlleval counts them, by its two questions at each word: does a chunk end before it, does one begin?

Tjong Kim Sang and Buchholz, 2000, the script conlleval of CoNLL-2000; here for the tags B, I and O.
"""


def ends(before: str, before_kind: str, tag: str, kind: str) -> bool:
    if before == "O":
        return False
    return tag in ("B", "O") or kind != before_kind


def begins(before: str, before_kind: str, tag: str, kind: str) -> bool:
    if tag == "B":
        return True
    return tag == "I" and (before == "O" or kind != before_kind)


def counts(predictions: list[list[str]], targets: list[list[str]]) -> tuple[int, int, int]:
    """Chunks that are right, found, and there: word by word, both sides at once."""
    right = found = there = 0
    for sentence in zip(predictions, targets, strict=True):
        in_both = False
        before = [("O", ""), ("O", "")]
        for labels in [*zip(*sentence, strict=True), ("O", "O")]:
            now = [(label[0], label[2:]) for label in labels]
            ended = [ends(*a, *b) for a, b in zip(before, now, strict=True)]
            begun = [begins(*a, *b) for a, b in zip(before, now, strict=True)]
            if in_both:
                right += all(ended)
                in_both = not any(ended)
            if all(begun) and now[0][1] == now[1][1]:
                in_both = True
            found, there = found + begun[0], there + begun[1]
            before = now
    return right, found, there
