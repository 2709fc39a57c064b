"""Adapting to one's own task: what a checkpoint began with, and what is printed of the cells that there are."""

import json
from pathlib import Path

import pytest

from mtdnn.adaptation import began_with, check_there, plain_start
from mtdnn.cli.show import print_adaptation
from mtdnn.errors import ConfigError
from mtdnn.model import MultiTaskConfig


@pytest.fixture
def checkpoint(tmp_path):
    """The configuration of a model in a cell's folder, whose encoder came from a hub under a name."""
    folder = tmp_path / "1" / "model"
    MultiTaskConfig(encoder={"model_type": "bert", "_name_or_path": "org/small"}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"inputs": {"encoder": {"path": "package:weights/model"}}}, "package:weights/model"),
        ([{"system": "of the whole run"}], "org/small"),
        ({"inputs": {}}, "org/small"),
        (None, "org/small"),
    ],
)
def test_a_checkpoint_began_with_what_its_result_says_else_what_its_encoder_is_called(checkpoint, result, expected):
    if result is not None:
        (checkpoint.parent / "results.json").write_text(json.dumps(result))
    assert began_with(str(checkpoint)) == expected


def test_without_a_record_or_the_encoder_one_line_says_how_to_get_the_comparison(checkpoint, tmp_path):
    found, told = plain_start(str(checkpoint))
    assert (found, told.count("\n")) == (None, 0)
    assert "began with org/small, which cannot be loaded; give --encoder" in told
    MultiTaskConfig(encoder={"model_type": "bert"}).save_pretrained(checkpoint)
    for place in (checkpoint, tmp_path):
        found, told = plain_start(str(place))
        assert (found, told.count("\n")) == (None, 0)
        assert "does not record what it began with; say it with --encoder" in told


def results(scores):
    """Of cells, by (labels, seed)."""
    return [
        {
            "seed": seed,
            "fraction": labels / 1000,
            "data": {"t": {"trained_on": labels}},
            "metrics": {"t": {"test": {"values": {"f1": value}}}},
        }
        for (labels, seed), value in scores.items()
    ]


def test_the_sentence_that_the_cells_allow_ends_the_curves(capsys):
    encoder = {30: 0.52, 100: 0.85, 300: 0.86, 1000: 0.83}
    checkpoint = {30: 0.62, 100: 0.83, 300: 0.87}
    both = {
        name: results({(labels, seed): value + seed / 1e4 for labels, value in curve.items() for seed in (1, 2, 3)})
        for name, curve in (("checkpoint", checkpoint), ("encoder", encoder))
    }
    for given, target, told in (
        (both, None, "with about 100 labels, the encoder already with about 93 labels: none saved ("),
        (both, 0.87, "the encoder not with up to 1000 labels: at least"),
        ({"encoder": both["encoder"]}, 0.8, "the encoder reaches 80.0 with about 83 labels ("),
        ({"checkpoint": results({(30, 1): 0.6, (100, 2): 0.7})}, None, "the learning curves have no seeds in common"),
    ):
        print_adaptation(given, task="t", target=target)
        assert told in " ".join(capsys.readouterr().out.split())


def test_a_misspelt_folder_is_named_at_the_part_that_is_not_there(checkpoint):
    check_there(checkpoint)
    with pytest.raises(ConfigError, match=rf"there is no {checkpoint.parents[1] / '11'}; unknown name '11'.*Known: 1"):
        check_there(checkpoint.parents[1] / "11" / "model")
    for elsewhere in ("org/model", "package:weights/some/model"):
        check_there(Path(elsewhere))
