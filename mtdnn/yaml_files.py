"""Strict YAML: the booleans and numbers of YAML 1.2, no duplicate keys, no bombs, and the line of every key kept.

PyYAML alone reads ``1e-5`` as text, ``no`` as False, and lets the last of two equal keys win in silence.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mtdnn.errors import MAX_NAME, ConfigError

MAX_BYTES = 200_000
MAX_DEPTH = 40
MAX_WRITTEN = 10_000  # values, as they stand in the file; reading that many takes part of a second
MAX_NODES = 100_000  # after expansion of aliases

TOO_LARGE = f"larger than {MAX_BYTES} bytes; a definition is a few lines"

TAG = "tag:yaml.org,2002:"
TAGS = ("map", "seq", "str", "int", "float", "bool", "null")

KeyPath = tuple[str | int, ...]


@dataclass
class YamlFile:
    """A parsed file: its data, and where each key stands.

    :param lines: of the file, by key.
    :param settings: places outside the file, by the key whose value they gave.
    :param bases: keys whose values are laid over another key's.
    """

    path: Path
    data: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    settings: dict[KeyPath, str] = field(default_factory=dict)
    bases: dict[KeyPath, KeyPath] = field(default_factory=dict)

    def where(self, key_path: KeyPath = ()) -> str:
        """``file:line: key`` of the key, or of the nearest key above it that is known; or the setting and the key."""
        source = self._source(key_path)
        for setting in above(source):
            if setting in self.settings:
                rest = dotted(source[len(setting) :])
                return self.settings[setting] + (f": {rest}" if rest else "")
        known = self._known(source)
        line = f":{self.lines[known]}" if known in self.lines else ""
        return f"{self.path}{line}" + (f": {dotted(source)}" if source else "")

    def _known(self, key_path: KeyPath) -> KeyPath:
        return next((key for key in above(key_path) if key in self.lines or key in self.settings), ())

    def _source(self, key_path: KeyPath) -> KeyPath:
        """The key itself, or that of its base where the value comes from there."""
        for key in above(key_path):
            if key in self.bases:
                base = (*self.bases[key], *key_path[len(key) :])
                inherited = len(self._known(base)) - len(self.bases[key]) > len(self._known(key_path)) - len(key)
                return base if inherited else key_path
        return key_path


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's core schema, which stops at a file that is too long or too deep."""

    yaml_implicit_resolvers: dict[Any, Any] = {}
    written = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.written, self.depth = self.written + 1, self.depth + 1
        if self.written > MAX_WRITTEN or self.depth > MAX_DEPTH:
            told = f"more than {MAX_WRITTEN} values or {MAX_DEPTH} levels; simplify the file"
            raise yaml.MarkedYAMLError(problem=told, problem_mark=self.peek_event().start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (KeyError, ValueError) as error:
            told = f"{str(node.value)[:MAX_NAME]!r} is no {node.tag.removeprefix(TAG)} that can be read"
            raise yaml.MarkedYAMLError(problem=told, problem_mark=node.start_mark) from error


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"{TAG}{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


# YAML 1.2 has no octal by a leading zero: 010 is ten.
_Loader.add_constructor(f"{TAG}int", lambda loader, node: int(node.value))


def above(key_path: KeyPath) -> list[KeyPath]:
    """The key and those that it lies in, the nearest first."""
    return [key_path[:depth] for depth in range(len(key_path), -1, -1)]


def dotted(key_path: KeyPath) -> str:
    return ".".join(map(str, key_path))


def parse_yaml(text: str, *, path: Path) -> YamlFile:
    """Parse one document. :class:`ConfigError` names file and line of whatever is refused."""
    if len(text.encode()) > MAX_BYTES:
        raise ConfigError(f"{path}: {TOO_LARGE}")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return YamlFile(path, {})
        file = YamlFile(path, None)
        _survey(node, (), file, {"nodes": 0, "merges": 0})
        file.data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not valid YAML: nested too deeply") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.reason}; remove what cannot be seen") from error
    return file


def load_yaml(path: Path) -> YamlFile:
    """Read and parse one file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: {TOO_LARGE}")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    return parse_yaml(text, path=path)


def _survey(node: yaml.Node, key_path: KeyPath, file: YamlFile, count: dict[str, int]) -> None:
    """Record every key's line; refuse duplicate keys, depth and size beyond reason (aliases counted as expanded)."""
    count["nodes"] += 1
    if count["nodes"] > MAX_NODES or len(key_path) + count["merges"] > MAX_DEPTH:
        raise ConfigError(
            f"{file.where(key_path)}: more than {MAX_NODES} values or {MAX_DEPTH} levels; simplify the file"
        )
    file.lines[key_path] = node.start_mark.line + 1
    if node.tag.removeprefix(TAG) not in TAGS:
        raise ConfigError(f"{file.where(key_path)}: tag '{node.tag[:MAX_NAME]}' is not allowed; write the value alone")
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _survey(item, (*key_path, index), file, count)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            _check_key(key, seen, key_path, file)
            is_merge = key.tag.endswith(":merge")
            count["merges"] += is_merge
            _survey(value, key_path if is_merge else (*key_path, key.value), file, count)
            count["merges"] -= is_merge
            if not is_merge:
                file.lines[(*key_path, key.value)] = key.start_mark.line + 1


def _check_key(key: yaml.Node, seen: set[str], key_path: KeyPath, file: YamlFile) -> None:
    line = key.start_mark.line + 1
    if not isinstance(key, yaml.ScalarNode):
        raise ConfigError(f"{file.path}:{line}: a key must be plain text")
    if key.value in seen:
        raise ConfigError(f"{file.path}:{line}: key '{key.value}' stands twice; keep one")
    seen.add(key.value)


def parse_settings(texts: Sequence[str], *, option: str, example: str) -> dict[str, Any]:
    """``["a.b=1", "c=[x]"]`` from the command line as values by key, which are YAML; nothing is an empty text."""
    found: dict[str, Any] = {}
    for each in texts:
        key, equals, text = each.partition("=")
        if not equals:
            raise ConfigError(f"{option} {each}: expected key=value, for example {example}")
        value = parse_yaml(text, path=Path(f"{option} {key}")).data
        found[key] = value if text else ""
    return found
