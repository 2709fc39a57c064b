"""Imports go one way: a module may import only from the ranks below its own."""

import ast

from support import ROOT

LAYERS = [
    {"errors", "hub", "rng", "diagnostics", "tracking", "interruptions", "crash", "testing.corpus_words"},
    {"testing.corpus"},
    {"registry", "yaml_files", "runner", "files", "distributed", "markdown", "hub_upload"},
    {"schema", "metrics", "recompute", "trackers", "prediction_files"},
    {"tasks", "statistics"},
    {"data", "divergences", "dropout", "perturbation", "families", "samplers", "label_savings"},
    {"encoder", "heads"},
    {"activation_checkpointing", "memory", "last_layer", "task_faults", "new_texts"},
    {"passes", "model_card"},
    {"model"},
    {"optim"},
    {"config"},
    {
        "objectives",
        "regularizers",
        "evaluate",
        "checkpoint",
        "testing.encoders",
        "new_task",
        "published",
        "baseline",
        "repeats",
        "search_space",
    },
    {"train_plan", "cell_folder", "loss_log"},
    {"training_state"},
    {"trainer", "zero_shot", "predictor", "methods", "method_docs", "plan", "pretrained"},
    {"data_store", "run_card"},
    {"preflight", "cell_run"},
    {"experiment", "runs"},
    {"interop", "checks", "report", "forecast", "adaptation", "sweep"},
    {"analysis", "step_profile", "run_experiment"},
    {"memory_probe"},
    {"doctor"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
PACKAGE = ROOT / "mtdnn"


def layer_of(module: str) -> str:
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if parts and parts[0] == "testing" else parts[0] if parts else ""


def imported(path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mtdnn":
            whole = node.module in ("mtdnn", "mtdnn.testing")
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if whole else {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("mtdnn.")}
    return {layer for module in found if (layer := layer_of(module))}


def test_imports_go_one_way():
    checked = 0
    for path in PACKAGE.rglob("*.py"):
        layer = layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if layer in ("__init__", "testing.__init__"):
            continue
        for name in imported(path) - {layer, "__version__"}:
            assert RANK[name] < RANK[layer], f"{path.relative_to(ROOT)} ({layer}) must not import from mtdnn.{name}"
            checked += 1
    assert checked > 50


def test_no_print_and_no_bare_except_in_the_package():
    for path in PACKAGE.rglob("*.py"):
        assert not any(
            isinstance(node, ast.ExceptHandler) and node.type is None for node in ast.walk(ast.parse(path.read_text()))
        ), path
