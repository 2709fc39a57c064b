"""C1, C2 and S3: YAML that is meant to hurt, typing errors, and names that lead out of their folder."""

import json
import subprocess
import sys

import pytest
import yaml
from support import NLI, own_process, write_toy_data, write_toy_experiment

from mtdnn.config import load_experiment
from mtdnn.data.sources import find_source
from mtdnn.errors import ConfigError, MtdnnError
from mtdnn.experiment import check_experiment
from mtdnn.model import MultiTaskConfig, MultiTaskModel
from mtdnn.new_task import write_definition
from mtdnn.tasks import TaskRegistry, load_tasks, read_task
from mtdnn.testing.encoders import tiny_model

READ = """
import json, resource, sys, time
from pathlib import Path
from mtdnn.errors import ConfigError
from mtdnn.yaml_files import load_yaml

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
found = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    before, started = peak(), time.process_time()
    try:
        said = repr(load_yaml(path).data)[:200]
    except ConfigError as error:
        said = f"refused: {error}"
    found[path.name] = [said, time.process_time() - started, peak() - before]
print(json.dumps(found))
"""
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
HOSTILE = {  # file: (text, what is said of it)
    "bomb": (BOMB, "refused: {path}:"),
    "merges": ("a: &a {k: 1}\n" + "".join(f"b{i}: &b{i} {{<<: [*a, *a]}}\n" for i in range(50)), "{"),
    "loop": ("a: &a [*a]", "refused: {path}:"),
    "loop-of-merges": ("x: 1\na: &a {<<: *a}", "refused: {path}:2"),
    "deep": ("[" * 5000 + "]" * 5000, "refused: {path}:"),
    "deep-block": ("\n".join("  " * i + f"k{i}:" for i in range(600)), "refused: {path}:"),
    "wide": ("a: [" + "1," * 90_000 + "1]", "refused: {path}:"),
    "large": ("a: " + "x" * 2_000_000, "refused: {path}: larger than"),
    "duplicate": ("a: 1\nb: 2\na: 3", "refused: {path}:3: key 'a' stands twice"),
    "duplicate-inside": ("x:\n  a: 1\n  a: 3", "refused: {path}:3: key 'a' stands twice"),
    "labels": ("labels: [yes, no, on, off, y, n]", "{'labels': ['yes', 'no', 'on', 'off', 'y', 'n']}"),
    "small": ("radius: 1e-5", "{'radius': 1e-05}"),
    "octal": ("n: 010", "{'n': 10}"),
    "digits": ("n: " + "1" * 5000, "refused: {path}:"),
    "tag": ("a: 1\nb: !!python/object/apply:os.system ['touch canary']", "refused: {path}:2"),
    "tag-bool": ("a: 1\nb: !!bool maybe", "refused: {path}:2"),
    "tag-name": ("b: !!python/name:os.system", "refused: {path}:1"),
    "tag-int": ("b: !!int yes", "refused: {path}:"),
    "tag-stamp": ("b: !!timestamp 2024-99-99", "refused: {path}:"),
    "tag-binary": ("b: !!binary '???'", "refused: {path}:1"),
    "two": ("a: 1\n---\nb: 2", "refused: {path}:"),
    "control": ("a: 1\nb: \x00", "refused: {path}:2"),
}


@pytest.mark.fault("C1")
def test_hostile_yaml_is_right_or_refused_at_once_with_file_and_line(tmp_path, tried):
    folder = tmp_path / "files"
    folder.mkdir()
    for name, (text, _) in HOSTILE.items():
        (folder / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder)],
        cwd=tmp_path,
        env=own_process(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for name, (said, seconds, megabytes) in json.loads(done.stdout).items():
        assert said.startswith(HOSTILE[name][1].replace("{path}", str(folder / name))), (name, said)
        assert seconds < 1, name
        assert megabytes < 100, name
    assert not (tmp_path / "canary").exists()
    tried(len(HOSTILE), "right or refused, each within 1 s and 100 MB")


EXPERIMENT_TYPOS = [  # a change of the experiment, and the word that was meant
    ("train.epochz=3", "epochs"),
    ("train.batchsize=3", "batch_size"),
    ("train.learning_rat=3", "learning_rate"),
    ("train.optimizer={type: adamv}", "adamw"),
    ("train.schedule={type: liner}", "linear"),
    ("encoder.max_len=3", "max_length"),
    ("encoder.pol=mean", "pool"),
    ("data.drop_leak=true", "drop_leaks"),
    ("data.badrows=skip", "bad_rows"),
    ("sedes=[1]", "seeds"),
    ("stages.jont.kind=joint", "joint"),
    ("stages.joint.kind=jiont", "joint"),
    ("stages.joint.tasks=[nil, sts]", "nli"),
    ("stages.joint.sampler={type: round_robbin}", "round_robin"),
    ("stages.joint.sampler={type: temprature}", "temperature"),
    ("stages.joint.objective={type: r_dorp}", "r_drop"),
    ("stages.joint.regularizers=[{type: smrat}]", "smart"),
    ("stages.joint.regularizers=[{type: bergman}]", "bregman"),
    ("stages.joint.regularizers=[{type: smart, preset: papper}]", "paper"),
    ("stages.joint.regularizers=[{type: smart, raduis: 1.0}]", "radius"),
]
TASK_TYPOS = [
    ({"kind": "clasification"}, "classification"),
    ({"metrics": ["acuracy"]}, "accuracy"),
    ({"metrics": ["f1_marco"]}, "f1_macro"),
    ({"inputs": {"text_a": "a", "tekst_b": "b"}}, "text_b"),
    ({"head": {"droput": 0.1}}, "dropout"),
    ({"target": None, "targt": "label"}, "target"),
]
COMMAND_TYPOS = [
    (["rnu", "toy.yaml"], "run"),
    (["chek"], "check"),
    (["evalaute"], "evaluate"),
    (["predcit"], "predict"),
    (["tasks", "shwo"], "show"),
    (["methods", "show", "smrat"], "smart"),
    (["run", "quikstart"], "quickstart"),
    (["run", "quickstart", "--jbos", "2"], "--jobs"),
]


@pytest.mark.fault("C2")
def test_typing_errors_get_the_right_suggestion(tmp_path, mtdnn, tried):
    write_toy_experiment(tmp_path)
    said = []
    for change, meant in EXPERIMENT_TYPOS:
        with pytest.raises(ConfigError) as caught:
            check_experiment(load_experiment(tmp_path / "toy.yaml", overrides=[change]), load_tasks(tmp_path / "tasks"))
        said.append((change, meant, str(caught.value)))
    content = yaml.safe_load((tmp_path / "tasks/nli.yaml").read_text())
    for change, meant in TASK_TYPOS:
        (tmp_path / "tasks/nli.yaml").write_text(yaml.safe_dump({**content, **change}))
        code, _, error = mtdnn("check", "nli", "--task-defs", tmp_path / "tasks")
        assert code in (ConfigError.exit_code, 4), error
        said.append((str(change), meant, error))
    for words, meant in COMMAND_TYPOS:
        code, _, error = mtdnn(*words)
        assert code in (2, ConfigError.exit_code), words
        said.append((" ".join(words), meant, error))
    assert len(said) >= 30
    missed = [change for change, meant, error in said if not suggested(meant, error)]
    assert len(said) - len(missed) >= 28 / 30 * len(said), missed
    tried(len(said), f"{len(said) - len(missed)} of {len(said)} right")


def suggested(meant, error):
    words = " ".join(error.replace("│", " ").split())
    return any(f"{lead} {quote}{meant}{quote}" in words for lead in ("Did you mean", "options:") for quote in ("'", ""))


NAMES = ["../x", "/x", "a/b", "..", ".", "", ".hidden", "a\\b", "a\nb", "a\x00b", "x" * 300]


@pytest.mark.fault("S3")
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name, tried):
    write_toy_data(tmp_path)
    definition = NLI.model_dump(mode="json", exclude={"folder"})
    with pytest.raises(ValueError, match="name"):
        type(NLI).model_validate({**definition, "name": name})
    config = tiny_model([NLI]).config.to_dict()  # somebody's checkpoint
    config["tasks"] = {"nli": {**config["tasks"]["nli"], "name": name}}
    with pytest.raises(ValueError, match="name"):
        MultiTaskModel(MultiTaskConfig(**config))
    if name:
        with pytest.raises(ConfigError, match="--name"):
            write_definition(tmp_path / "nli-train.jsonl", folder=tmp_path / "new", name=name)
    path = write_toy_experiment(tmp_path / "toy")
    for key in ("name", "stages.joint.name"):
        with pytest.raises(MtdnnError):
            load_experiment(path, overrides=[f"{key}={json.dumps(name)}"])
    with pytest.raises(MtdnnError):
        load_experiment(path, overrides=["systems=" + json.dumps({name: ["joint"]})])
    assert not (tmp_path / "x.yaml").exists()
    tried(6, "refused")


OUTSIDE = ["../secret.jsonl", "{absolute}", "link.jsonl", "folder/secret.jsonl", "folder/../../secret.jsonl"]


@pytest.mark.fault("S3")
@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("way", ["data folder", "beside a checkpoint", "in a checkpoint"])
def test_a_data_path_that_leaves_its_folder_is_refused(tmp_path, path, way, tried):
    secret = tmp_path / "secret.jsonl"
    secret.write_text(json.dumps({"a": "x", "b": "y", "label": "yes"}) + "\n")
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "link.jsonl").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path)
    content = NLI.model_dump(mode="json", exclude={"folder", "name"}, exclude_none=True)
    content["data"] = {"files": {"path": path.replace("{absolute}", str(secret)), "splits": {"train": "train"}}}
    (folder / "nli.yaml").write_text(yaml.safe_dump(content))
    task = read_task(folder / "nli.yaml")
    if way == "beside a checkpoint":
        (folder / "model").mkdir()
        (folder / "model/model.safetensors").touch()
        (folder / "task_defs").mkdir()
        for name in ("link.jsonl", "folder", "nli.yaml"):
            (folder / name).rename(folder / "task_defs" / name)
        if path.startswith(".."):
            content["data"]["files"]["path"] = f"../{path}"
            (folder / "task_defs/nli.yaml").write_text(yaml.safe_dump(content))
        task = TaskRegistry([folder / "task_defs"])["nli"]
    if way == "in a checkpoint":
        (task,) = MultiTaskModel(tiny_model([task]).config).task_defs.values()
    with pytest.raises(ConfigError, match=r"outside its data folder|came inside a checkpoint"):
        find_source(task, "train", data_dir=folder if way == "data folder" else None)
    tried(1, f"{way}: refused")


@pytest.mark.fault("S3")
@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "a/../../b"])
def test_a_split_that_leaves_its_folder_is_refused(tmp_path, place, tried):
    content = NLI.model_dump(mode="json", exclude={"folder", "name"}, exclude_none=True)
    content["data"] = {"files": {"path": "{split}", "splits": {"train": place}}}
    (tmp_path / "nli.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="leaves the data folder"):
        read_task(tmp_path / "nli.yaml")
    tried(1, "refused")
