"""Strict YAML."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtdnn.errors import ConfigError
from mtdnn.yaml_files import load_yaml, parse_yaml

PATH = Path("file.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.0E+3", 1000.0),
        ("-.5", -0.5),
        ("010", 10),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("~", None),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    read = parse_yaml(f"key: {text}", path=PATH).data["key"]
    assert read == value
    assert type(read) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_read_as_itself(value):
    assert parse_yaml(f"key: {value!r}", path=PATH).data["key"] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"file\.yaml:3: key 'a' stands twice"),
        ("a: [1, 2", r"file\.yaml:\d: not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", r"file\.yaml:1: a: tag '.*os\.system' is not allowed"),
        ("? [a]\n: 1", r"file\.yaml:1: a key must be plain text"),
        ("[" * 5000 + "]" * 5000, r"file\.yaml: not valid YAML|levels"),
    ],
)
def test_what_is_refused_is_named_with_its_line(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, path=PATH)


def test_a_bomb_is_refused():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    with pytest.raises(ConfigError, match="more than 100000 values"):
        parse_yaml(bomb, path=PATH)


def test_lines_of_keys_are_kept():
    file = parse_yaml("a: 1\nb:\n  - c: 2\n    d: 3\n", path=PATH)
    assert file.where(("b", 0, "d")) == "file.yaml:4: b.0.d"
    assert file.where(("b", 0, "missing")) == "file.yaml:3: b.0.missing"


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"x\.yaml: not UTF-8 at byte 3"):
        load_yaml(tmp_path / "x.yaml")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_as_a_config_error(text):
    with contextlib.suppress(ConfigError):
        parse_yaml(text, path=PATH)
