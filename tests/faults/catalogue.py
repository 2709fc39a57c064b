"""The faults that are really done to the product, and what must come of each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One line of the catalogue.

    :param what: is done.
    :param bar: must come of it.
    """

    what: str
    bar: str


CATALOGUE = {
    "R1": Fault("kill -9 at random moments of a run, then the same command", "ends bit-identical to the uncut run"),
    "R2": Fault("stop at any step, with every option that a step depends on", "ends bit-identical"),
    "R3": Fault(
        "a checkpoint's part missing, cut short, one bit flipped",
        "detected and named; the one before is taken with one warning; an error where there is none",
    ),
    "R4": Fault(
        "disk full or folder read-only during a save",
        "the checkpoint before is intact; space is checked first; bytes are told",
    ),
    "R5": Fault("SIGTERM, SIGINT, a second one", "the step is finished and saved, exit 143 or 130; the second at once"),
    "R6": Fault("two runs in one folder", "refused within 1 s with process and host; a stale lock does not block"),
    "R7": Fault("resumed with another config, data or task", "differences shown; fatal unless allowed by name"),
    "R8": Fault("NaN or infinity in loss, gradient, label", "stops, naming task, step, rows; the state before is kept"),
    "R9": Fault("8 processes build one cache; kills inside the build", "right, built once, nothing stale is left"),
    "R10": Fault("a source changed at the same size and time; a cache byte flipped", "never stale"),
    "D1": Fault("bad rows of every kind in every format", "each told with place, column, value; or skipped and kept"),
    "D2": Fault("any texts written and read back", "identical"),
    "D3": Fault("an example in train and in validation or test", "reported, and left out of training, counted"),
    "D4": Fault("1,000,000 rows", "at most 150 MB more; training begins within 6 s from a warm cache"),
    "C1": Fault("YAML: bombs, depth, duplicate keys, look-alikes, tags", "right or refused in 1 s, 100 MB, with line"),
    "C2": Fault("30 typos in keys, kinds, metrics, verbs", "28 right suggestions, none silent"),
    "C3": Fault("labels, tokenizer or length differ between checkpoint and task", "refused with both, or remapped"),
    "S1": Fault("malicious pickles as checkpoint, state, cache, legacy file", "never executed"),
    "S2": Fault("remote code; no network", "cannot be switched on; a miss within 1 s"),
    "S3": Fault("paths that leave the folder, in names and data", "refused"),
    "S4": Fault("10,000 mutated files a format", "our errors only, no hang over 1 s, 300 MB"),
    "S5": Fault("markup in names, labels and texts of a report", "escaped"),
    "M1": Fault("memory over 2,000 steps", "at most 1 KB a step"),
    "M2": Fault("not enough memory", "told before training, with what fits"),
    "P1": Fault("two processes against one; one rank killed", "equal to 1e-9 and 1e-5; the other ends within 30 s"),
    "Q1": Fault("every fault above", "an exit code of its own, one message with the remedy, no traceback"),
}
