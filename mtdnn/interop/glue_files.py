"""What the GLUE server expects of each file of a submission, as data.

Wang et al., ICLR 2019, "GLUE". Names, answers and the form of scores are those of the authors' own baselines
(nyu-mll/GLUE-baselines), row counts those that ``datasets`` records of its ``glue``; the server reads the columns
``index``, from 0 in the order of the official test file, and ``prediction``.
"""

from dataclasses import dataclass

Answers = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class GlueFile:
    """One file of the zip.

    :param task: the task whose definition says where the test rows are.
    :param rows: of the official test split.
    :param answers: per class the word that the server wants, then other names of it; none where it wants a score.
    :param score_range: scores outside are moved to its nearer end.
    :param head: the task that is asked, where it is not ``task``.
    :param majority: the most frequent answer, which may stand for a model's where the user says so.
    """

    name: str
    task: str
    rows: int
    answers: Answers = ()
    score_range: tuple[float, float] | None = None
    head: str = ""
    majority: str = ""

    @property
    def asked(self) -> str:
        return self.head or self.task


NLI: Answers = (("entailment",), ("neutral",), ("contradiction",))
TWO_WAY: Answers = (("entailment",), ("not_entailment",))
GLUE_FILES: tuple[GlueFile, ...] = (
    GlueFile("CoLA.tsv", task="cola", rows=1063, answers=(("0", "unacceptable"), ("1", "acceptable"))),
    GlueFile("SST-2.tsv", task="sst2", rows=1821, answers=(("0", "negative"), ("1", "positive"))),
    GlueFile("MRPC.tsv", task="mrpc", rows=1725, answers=(("0", "not_equivalent"), ("1", "equivalent"))),
    GlueFile("STS-B.tsv", task="stsb", rows=1379, score_range=(0.0, 5.0)),
    GlueFile("QQP.tsv", task="qqp", rows=390_965, answers=(("0", "not_duplicate"), ("1", "duplicate"))),
    GlueFile("MNLI-m.tsv", task="mnli", rows=9796, answers=NLI),
    GlueFile("MNLI-mm.tsv", task="mnli_mismatched", rows=9847, answers=NLI, head="mnli"),
    GlueFile("QNLI.tsv", task="qnli", rows=5463, answers=TWO_WAY),
    GlueFile("RTE.tsv", task="rte", rows=3000, answers=TWO_WAY),
    # The majority answer scores 65.1 on the test rows (Devlin et al., NAACL 2019, section 4.1).
    GlueFile("WNLI.tsv", task="wnli", rows=146, answers=(("0", "not_entailment"), ("1", "entailment")), majority="0"),
    GlueFile("AX.tsv", task="ax", rows=1104, answers=NLI, head="mnli"),
)
