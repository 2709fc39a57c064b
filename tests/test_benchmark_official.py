"""The official code as a contender, on a made-up checkout with its modules, its signatures and its slip."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import memory, train_step
from benchmarks.contenders.official import NAME, Official
from benchmarks.shapes import LENGTHS, batches_of, config_of, split_of

FILES = {
    "pretrained_models.py": "from transformers import NoLongerThere\n",
    "module/bert_optim.py": """
from pytorch_pretrained_bert.optimization import warmup_constant, warmup_cosine, warmup_linear
from torch.optim import Adamax
""",
    "module/san_model.py": """
from pytorch_pretrained_bert.modeling import BertConfig, BertEmbeddings, BertLayerNorm
""",
    "data_utils/task_def.py": """
from enum import IntEnum

class TaskType(IntEnum):
    Classification = 1

class EncoderModelType(IntEnum):
    BERT = 1
""",
    "mt_dnn/loss.py": """
from enum import IntEnum

class LossCriterion(IntEnum):
    CeCriterion = 0
    SymKlCriterion = 7
""",
    "mt_dnn/matcher.py": """
from pretrained_models import MODEL_CLASSES
import module.san_model
from seqeval.metrics import classification_report
from torch import nn

class SANBertNetwork(nn.Module):
    def __init__(self, opt, bert_config=None, initial_from_local=False):
        super().__init__()
        assert initial_from_local
        config_class, model_class, _ = MODEL_CLASSES["bert"]
        self.bert = model_class(config_class.from_dict(opt))
        self.head = nn.Linear(self.bert.config.hidden_size, opt["task_def_list"][0].n_class)

    def forward(self, input_ids, token_type_ids, attention_mask, premise_mask=None, hyp_mask=None, task_id=0,
                y_input_ids=None, fwd_type=0, embed=None):
        assert y_input_ids is None
        if fwd_type == 1:
            return self.bert.embeddings(input_ids, token_type_ids)
        ids = None if fwd_type == 2 else input_ids
        given = self.bert(ids, token_type_ids=token_type_ids, attention_mask=attention_mask, inputs_embeds=embed)
        return self.head(given.last_hidden_state[:, 0])
""",
    "mt_dnn/perturbation.py": """
class SmartPerturbation:
    def forward(self, model, logits, input_ids, token_type_ids, attention_mask, premise_mask=None, hyp_mask=None,
                task_id=0, task_type=1, pairwise=1):
        inputs = [input_ids, token_type_ids, attention_mask, premise_mask, hyp_mask, task_id]
        embed = model(*inputs, 1)
        return (model(*inputs, 2, embed + 1) - logits).square().mean()
""",
    "mt_dnn/model.py": """
import torch
from pytorch_pretrained_bert import BertAdam
from data_utils.task_def import EncoderModelType, TaskType
from module.bert_optim import Adamax
from mt_dnn.loss import LossCriterion
from mt_dnn.matcher import SANBertNetwork
from mt_dnn.perturbation import SmartPerturbation

class MTDNNModel:
    def __init__(self, opt, device=None, state_dict=None, num_train_step=-1):
        self.network = SANBertNetwork(opt, initial_from_local=bool(state_dict))
        self.mnetwork = self.network
        self.adv_alpha, self.adv_teacher = opt["adv_alpha"], SmartPerturbation()
        self.optimizer = Adamax(self.network.parameters(), lr=opt["learning_rate"])

    def update(self, batch_meta, batch_data):
        inputs = [*batch_data[: batch_meta["input_len"]], None, None, batch_meta["task_id"]]
        logits = self.mnetwork(*inputs)
        loss = torch.nn.functional.cross_entropy(logits, batch_data[batch_meta["label"]])
        self.penalty = self.adv_teacher.forward(self.mnetwork, logits, *inputs, batch_meta["task_def"]["task_type"])
        (loss + self.adv_alpha * self.penalty).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
""",
}


@pytest.fixture
def official(tmp_path: Path) -> Iterator[Path]:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    yield tmp_path
    theirs = {name.partition("/")[0] for name in FILES}
    for name in [name for name in sys.modules if name.partition(".")[0] in theirs]:
        del sys.modules[name]


def test_a_step_changes_the_weights_with_a_penalty_and_leaves_no_stand_in(official):
    training = Official(official, config_of("tiny"), torch.device("cpu"))
    before = training.model.network.head.weight.clone()
    (batch,) = batches_of(split_of(LENGTHS["snli"], 16), batch_size=4, buckets=False, count=1)
    training.step(batch)
    assert training.model.penalty > 0
    assert not torch.equal(before, training.model.network.head.weight)
    assert "pretrained_models" not in sys.modules
    assert str(official) not in sys.path


@pytest.mark.parametrize(("lengths", "bar"), [("snli", 2.2), ("mnli", 3.0)])
def test_ours_is_compared_with_it_in_fp32(official, lengths, bar):
    only = ["mtdnn smart", NAME]
    rows, _ = train_step.rows_of("tiny", lengths, "fp32", rows=2, count=1, repetitions=1, only=only, official=official)
    assert [(row.name, row.ratio_to, row.bar) for row in rows] == [("mtdnn smart", f"{NAME}, random", bar)]
    assert NAME not in train_step.trainings("tiny", "bf16", 2, torch.device("cpu"), official=official)


@pytest.mark.parametrize("main", [train_step.main, memory.main])
def test_a_folder_without_it_is_refused(main, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--official", str(tmp_path)])
    assert f"argument --official: '{tmp_path}' has no folder mt_dnn: name a checkout" in capsys.readouterr().err
