"""What an optimizer step of each method costs over a step of plain fine-tuning.

python -m benchmarks.method_cost runs/quickstart/mtdnn/joint/joint/full/1/model everyday_nli
"""

import copy
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.contenders.ours import METHODS as COMMON
from benchmarks.contenders.ours import Ours, trainer_of
from benchmarks.measure import Contender
from benchmarks.shapes import real_tokens
from mtdnn.data.batch import make_batch
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import load_split
from mtdnn.predictor import Predictor
from mtdnn.tasks import load_tasks

ROWS = 16
PLAIN = "plain"
METHODS: Mapping[str, Mapping[str, Any]] = {
    **COMMON,
    "bregman": {"regularizers": [{"type": "bregman"}]},
    "r3f": {"regularizers": [{"type": "r3f"}]},
    "r_drop": {"objective": {"type": "r_drop"}},
    "smart option B": {"regularizers": [{"type": "smart", "option": "B"}]},
    "vat": {"regularizers": [{"type": "vat"}]},
    "pgd": {"objective": {"type": "pgd"}},
}
PUBLISHED = "RAPT's table 3 (A100) has 1.25 for RAPT and 1.59 for SMART; from its columns 1.34 and 1.71."


def main(folder: str, task: str) -> None:
    predictor = Predictor.load(Path(folder))
    model = predictor.model
    source = find_source(load_tasks()[task], "train")
    data = load_split(source, model.head(task), predictor.tokenizer, max_length=model.config.encoder_max_length)
    batch = make_batch(data, range(ROWS), model.head(task), pad_id=predictor.tokenizer.pad_token_id).to(model.device)
    field = []
    for name, method in METHODS.items():
        training = Ours(trainer_of(copy.deepcopy(model).train(), [data], method, rows=ROWS))
        field.append(Contender(name, partial(training.seconds, [batch]), real_tokens([batch])))
    rounds = measure.rounds_of(field)
    shape = "{} x {}".format(*batch.mask_NT.shape)
    pairs = {(name, PLAIN): None for name in METHODS if name != PLAIN}
    rows = list(measure.compared(field, rounds, pairs, shape=shape, of_time=True))
    notes = [f"The ratios are of time. {PUBLISHED}"]
    measure.write("method_cost", rows, command=f"python -m benchmarks.method_cost {folder} {task}", notes=notes)


if __name__ == "__main__":
    main(*sys.argv[1:])
