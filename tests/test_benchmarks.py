"""The benchmarks run; their numbers are not judged here."""

from benchmarks import presets
from mtdnn.regularizers.smart import Smart
from mtdnn.tasks import load_tasks
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer


def test_the_table_of_presets_has_a_row_for_each(tmp_path, capsys):
    tiny_model([load_tasks()["everyday_nli"]]).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    presets.main(str(tmp_path), "everyday_nli")
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in Smart.PRESETS)
