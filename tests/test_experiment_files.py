"""Every shipped experiment: it loads at each of its sizes, names what is there, is a plan, and its tiny size runs."""

import pytest
from support import REAL_DATA, ROOT

from mtdnn.config import load_experiment
from mtdnn.data.sources import find_source
from mtdnn.errors import ConfigError
from mtdnn.experiment import Experiment, check_experiment
from mtdnn.interop.glue_files import GLUE_FILES
from mtdnn.plan import plan_cells
from mtdnn.published import load_published, read_published
from mtdnn.tasks import load_tasks
from mtdnn.yaml_files import load_yaml

PATHS = [path for path in sorted((ROOT / "experiments").glob("*.yaml")) if ".published" not in path.name]
YOURS = {  # these files leave the task to the command line
    "own_task": ["stages.finetune.tasks=[everyday_nli]"],
    "adapt": ["systems.adapt.0.tasks=[everyday_nli]"],
}
KEPT_FOR_ADAPTATION = {"snli", "scitail", "sick"}
TABLES = [path for path in PATHS if path.stem.startswith(("smart_table", "smart_anli", "rapt_", "robert_"))]


def sizes_of(path):
    return [None, *(load_yaml(path).data.get("sizes") or {})]


def config_of(path, size, *more):
    chosen = [] if size is None else [f"size={size}"]
    return load_experiment(path, overrides=[*chosen, *YOURS.get(path.stem, []), *more])


def having(size):
    return [pytest.param(path, id=path.stem) for path in PATHS if size in sizes_of(path)]


AT_EVERY_SIZE = [
    pytest.param(path, size, id=f"{path.stem}-{size or 'full'}") for path in PATHS for size in sizes_of(path)
]


@pytest.mark.parametrize(("path", "size"), AT_EVERY_SIZE)
def test_an_experiment_names_tasks_and_methods_that_are_there_and_is_a_plan(path, size):
    config = config_of(path, size)
    check_experiment(config, load_tasks())
    cells = plan_cells(config)
    assert len({cell.path for cell in cells}) == len(cells) > 0


@pytest.mark.parametrize(("path", "size"), AT_EVERY_SIZE)
def test_a_joint_stage_never_sees_what_is_kept_for_adaptation(path, size):
    for stages in config_of(path, size).systems.values():
        assert not any(KEPT_FOR_ADAPTATION & set(stage.tasks) for stage in stages if stage.kind == "joint")


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_the_full_size_of_a_paper_s_table_comes_from_a_hub(path):
    config, tasks = config_of(path, None), load_tasks()
    for name in config.tasks():
        assert tasks[name].layout(config.data.layout) is tasks[name].data.hub
        assert "train" in tasks[name].data.hub.splits


@pytest.mark.parametrize("path", [path for path in TABLES if read_published(path)], ids=lambda path: path.stem)
def test_every_published_figure_has_a_stage_that_evaluates_it_or_keeps_the_model_for_a_submission(path):
    tasks = load_tasks()
    configs = [config_of(path, size) for size in sizes_of(path)]
    for figure in load_published(path):
        assert any(
            fills(stage, figure, tasks[figure.task]) and figure.split in ("train", *config.data.eval_splits)
            for config in configs
            for stage in config.systems.get(figure.system, ())
        ), figure


def fills(stage, figure, task):
    """Whether a stage gives the figure, or its model the answers that the GLUE server scores."""
    if task.data.hub and figure.split in task.data.hub.unlabelled:
        return stage.keeps_model and {file.task: file.asked for file in GLUE_FILES}[task.name] in stage.tasks
    return figure.task in stage.evaluated()


@pytest.mark.realdata
@pytest.mark.parametrize("path", having("small"))
def test_the_small_size_needs_only_files_that_are_here(path):
    config, tasks = config_of(path, "small"), load_tasks()
    assert config.data.layout is None  # --data-dir decides
    for name in config.tasks():
        for split in ("train", "validation"):
            find_source(tasks[name], split, layout="files", data_dir=REAL_DATA)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::mtdnn.metrics.base.UndefinedMetricWarning")  # a few steps of a random encoder
@pytest.mark.parametrize("path", [each for each in having("tiny") if each.id != "rapt_figures_max_layer"])
def test_the_tiny_size_runs_to_its_end(path, tmp_path, monkeypatch):
    """Without the bootstrap, most of the time. rapt_figures_max_layer is left out: its six layers take minutes."""
    monkeypatch.setattr("mtdnn.cell_run.bootstrap", lambda metric, evaluation: (-1.0, 1.0))
    job = Experiment(config_of(path, "tiny"), load_tasks(), out=tmp_path)
    results = job.run()
    assert len(results) == len(job.cells)
    assert {result["system"] for result in results} == set(job.config.systems)


def test_a_misspelt_key_of_the_file_is_named_before_what_depends_on_it(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nsatges:\n  tune: {kind: finetune, tasks: [rte]}\nsystems:\n  plain: [tune]\n")
    with pytest.raises(ConfigError, match=r"mine.yaml:2: satges: unknown key 'satges'. Did you mean 'stages'"):
        load_experiment(path)
    path.write_text(path.read_text().replace("satges", "stages"))
    with pytest.raises(ConfigError, match=r"--set sedes: unknown key 'sedes'. Did you mean 'seeds'"):
        load_experiment(path, overrides=["sedes=[1]"])


FAULTY = """
name: mine
encoder: {path: tiny}
stages:
  tune: {kind: finetune, tasks: [rte], train: {epochs: many, batch_size: 8}}
sizes:
  small: {train.warmup: much}
systems:
  plain: [tune]
  wide: [{base: tune, train: {batch_size: few}}]
  smart: [{base: tune, regularizers: [{type: smart}]}]
"""


def test_a_fault_is_named_once_and_where_its_value_was_given(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(FAULTY)
    with pytest.raises(ConfigError) as refused:
        load_experiment(path, overrides=["size=small", "train.clip_norm=[1]", "systems.wide.0.train.accumulate=x"])
    places = sorted(fault.split(": ")[0].removeprefix(f"{path}") for fault in str(refused.value).splitlines())
    assert places == ["--set systems.wide.0.train.accumulate", "--set train.clip_norm", ":10", ":5", ":7"]


def test_unknown_tasks_and_methods_are_told_once_where_they_stand_in_the_file(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text(
        "name: x\nencoder: {path: tiny}\nstages:\n  finetune: {kind: finetune, tasks: [rtee]}\nsystems:\n"
        "  standard: [finetune]\n  smart:\n    - {base: finetune, regularizers: [{type: smrt}]}\n"
    )
    with pytest.raises(ConfigError) as caught:
        check_experiment(load_experiment(path), load_tasks())
    in_tasks, in_methods = str(caught.value).splitlines()
    assert in_tasks.startswith(f"{path}:4: stages.finetune.tasks[0]: unknown task 'rtee'. Did you mean 'rte'?")
    assert in_methods.startswith(f"{path}:8: systems.smart.0.regularizers[0]: unknown regularizer 'smrt'")
    with pytest.raises(ConfigError, match=r"--set stages.finetune.tasks\[0\]: unknown task 'rtte'"):
        check_experiment(load_experiment(path, overrides=["stages.finetune.tasks=[rtte]"]), load_tasks())
