"""The benchmarks run; their numbers are not judged here."""

from benchmarks import method_cost, presets
from mtdnn.regularizers.smart import Smart
from mtdnn.tasks import load_tasks
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer


def test_the_table_of_presets_has_a_row_for_each(tmp_path, capsys):
    tiny_model([load_tasks()["everyday_nli"]]).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    presets.main(str(tmp_path), "everyday_nli")
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in Smart.PRESETS)


def test_the_table_of_costs_has_a_row_for_each_method(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(method_cost, "RESULTS", tmp_path / "results" / "cost.json")
    monkeypatch.setattr(method_cost, "REPETITIONS", 1)
    tiny_model([load_tasks()["everyday_nli"]]).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    methods = {name: options for name, options in method_cost.METHODS.items() if name != "rapt"}
    monkeypatch.setattr(method_cost, "METHODS", methods)  # rapt's three layers are more than the tiny encoder has
    method_cost.main(str(tmp_path), "everyday_nli")
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in methods)
    assert (tmp_path / "results" / "cost.json").is_file()
