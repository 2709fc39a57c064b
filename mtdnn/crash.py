"""A report of an error that is not the user's: where it happened and with which versions, and no data."""

import json
import platform
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from importlib import metadata
from pathlib import Path

OWN_FAULT = 70  # the exit status; EX_SOFTWARE of sysexits.h
PACKAGES = ("mtdnn", "torch", "transformers", "datasets", "numpy", "accelerate")


def write_crash_report(error: BaseException) -> str:
    """Write ``mtdnn-crash-<time>.json`` here, or among the temporary files; the message that says so.

    The report has the command line, the experiment file that it names, versions and the places of the traceback. The
    error's own text stays out of it, for it may hold texts of the data.
    """
    report = {
        "error": type(error).__name__,
        "command": sys.argv,
        "configuration": {name: _text(Path(name)) for name in sys.argv if name.endswith((".yaml", ".yml"))},
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "places": [f"{each.filename}:{each.lineno} {each.name}" for each in traceback.extract_tb(error.__traceback__)],
    }
    name = time.strftime("mtdnn-crash-%Y%m%d-%H%M%S.json")
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        with suppress(OSError):
            (folder / name).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            where = f"{folder / name} says where it happened, with no data in it; please report it with that file"
            return f"{type(error).__name__}: {error}. {where}. --debug shows the traceback"
    return f"{type(error).__name__}: {error}. --debug shows the traceback"


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
