"""Tasks of a model as one ONNX graph: one encoding, and an output for each head."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtdnn import encoder as enc
from mtdnn.data.batch import Batch
from mtdnn.errors import ConfigError, EncoderError, listed
from mtdnn.files import new_folder, require_new, write_json
from mtdnn.interop.exported import Trained, difference
from mtdnn.model import MultiTaskModel
from mtdnn.tasks import TaskDef

NEEDED = ("onnx", "onnxruntime", "onnxscript")
GRAPH, ABOUT = "model.onnx", "tasks.json"
TRACED = (3, 8)  # rows and tokens of the example; others are tried against it
TRIED = ((1, 4), (5, 11), (2, 7))
TOLERANCE = 1e-5


class Graph(nn.Module):
    """The encoder, the pooler and some heads, from tensors to a tuple of logits."""

    def __init__(self, model: MultiTaskModel, *, tasks: Sequence[str], inputs: Sequence[str]):
        super().__init__()
        self.model, self.tasks, self.inputs = model, tuple(tasks), tuple(inputs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs_NT = dict(zip(self.inputs, tensors, strict=True))
        ones = torch.ones(tensors[0].shape[0], dtype=torch.int64)
        hidden_NTD = enc.encode(self.model.encoder, inputs_NT)
        batches = (Batch(task=task, uids=(), inputs_NT=inputs_NT, num_rows_U=ones) for task in self.tasks)
        return tuple(self.model.logits_of(hidden_NTD, batch) for batch in batches)


def export_onnx(model: Path, out: Path, *, tasks: list[str]) -> None:
    """Write ``model.onnx``, what its outputs mean (``tasks.json``) and the tokenizer.

    Rows and tokens of the inputs are free. The graph is run in onnxruntime on other shapes than the traced one, and
    kept only when it says what the model says.

    :param model: a model folder of ours.
    :param out: the folder to write; whole or not there.
    :param tasks: the heads; every head when empty.
    :raises ConfigError: when the packages are not installed, or a head reads more of the tokens than the graph has.
    :raises EncoderError: when the graph cannot be made, or says something else.
    """
    if any(find_spec(name) is None for name in NEEDED):
        raise ConfigError(f"--to onnx needs {', '.join(NEEDED)}: pip install 'mtdnn[onnx]'")
    require_new(out)
    trained = Trained.load(model)
    named = trained.tasks(tasks)
    check_heads(trained.model, named)
    with new_folder(out) as staged:
        write_graph(trained, named, staged / GRAPH)
        check_same(trained, named, staged / GRAPH)
        write_json(staged / ABOUT, about(trained, named))
        trained.tokenizer.save_pretrained(staged)


def check_heads(model: MultiTaskModel, tasks: Sequence[TaskDef]) -> None:
    """That the heads need nothing but hidden states."""
    heads = {task.name: model.head(task.name) for task in tasks}
    if wrong := [f"task '{name}': {head.not_in_a_graph}" for name, head in heads.items() if head.not_in_a_graph]:
        raise ConfigError(f"{listed(wrong)}; name other tasks with --task")


def write_graph(trained: Trained, tasks: Sequence[TaskDef], path: Path) -> None:
    """Trace the model on a few rows and write the graph."""
    count, length = TRACED
    example = trained.rows(count=count, length=length)
    names = [task.name for task in tasks]
    graph = Graph(trained.model, tasks=names, inputs=trained.inputs).eval()
    free = {0: "batch", 1: "length"}
    with quiet():
        try:
            program: Any = torch.onnx.export(
                graph,
                tuple(example.values()),
                dynamo=True,
                input_names=trained.inputs,
                output_names=names,
                dynamic_shapes=(tuple(free for _ in example),),
                verbose=False,
            )
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            kind = trained.model.encoder.config.model_type
            raise EncoderError(f"torch cannot export this {kind} model to ONNX: {str(error)[:300]}") from error
        without_places(program.model)
        program.save(path)


def without_places(graph: Any) -> None:
    """Take out of an ``onnx_ir.Model`` where each node comes from: files of this machine, line by line."""
    for part in (graph.graph, *graph.functions.values()):
        part.metadata_props.clear()
        for node in part.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()


def check_same(trained: Trained, tasks: Sequence[TaskDef], path: Path) -> None:
    """That onnxruntime says what the model says, whatever the number of rows and tokens; EncoderError when not."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    longest = trained.model.config.encoder_max_length
    for count, length in TRIED:
        rows = trained.rows(count=count, length=min(length, longest))
        found = session.run([task.name for task in tasks], {name: each.numpy() for name, each in rows.items()})
        for task, logits in zip(tasks, found, strict=True):
            ours = trained.logits(task, rows)
            apart = difference(ours, torch.from_numpy(logits).reshape(ours.shape))
            if apart > TOLERANCE:
                raise EncoderError(
                    f"task '{task.name}': the ONNX graph is not the model (logits differ by {apart:.1e} at {count} "
                    f"rows of {length} tokens); nothing was written"
                )


def about(trained: Trained, tasks: Sequence[TaskDef]) -> dict[str, Any]:
    """What a program needs to use the graph, and no part of the data."""
    heads = {task.name: {"kind": task.kind, "labels": list(task.label_names), "range": task.range} for task in tasks}
    return {
        "inputs": trained.inputs,
        "max_length": trained.model.config.encoder_max_length,
        "pad_token_id": trained.tokenizer.pad_token_id,
        "outputs": heads,
    }


@contextmanager
def quiet() -> Iterator[None]:
    """While entered, the exporter's notes on packages and defaults are not shown."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
