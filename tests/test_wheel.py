"""What an installation holds: the package with the task definitions and experiments inside it."""

import shutil
import subprocess
import sys
import zipfile

import pytest
from support import ROOT, own_process


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the contents of the wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "__pycache__", "tests")
    shutil.copytree(ROOT, folder / "sources", ignore=ignored)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(folder / "sources")], check=True)
    (wheel,) = folder.glob("mtdnn-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.mark.parametrize("kind", ["task_defs", "experiments"])
def test_the_wheel_holds_every_shipped_definition(installed, kind):
    here = {path.name for path in (ROOT / kind).iterdir() if path.suffix in (".yaml", ".md")}
    assert {path.name for path in (installed / "mtdnn" / kind).iterdir() if path.suffix != ".py"} == here


def test_an_installed_package_finds_tasks_and_experiments_from_anywhere(installed, tmp_path):
    code = (
        "import mtdnn; from mtdnn.cli.main import main; "
        f"assert mtdnn.__file__.startswith({str(installed)!r}), mtdnn.__file__; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "quickstart", "--plan", "--set", "encoder.path=tiny"],
        cwd=tmp_path,
        env=own_process(root=installed),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "smart_mtdnn/adapt/science_nli" in done.stdout
