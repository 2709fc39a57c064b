"""What a release holds: sources that build by themselves, and the package with tasks and experiments inside it."""

import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from support import ROOT, own_process


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder with the contents of the sdist, built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("sdist")
    ignored = [".git", ".venv", "runs", "build", "dist", "*.egg-info", "__pycache__", ".*_cache"]
    ignored += [".hypothesis", "mtdnn-crash-*"]
    shutil.copytree(ROOT, folder / "checkout", ignore=shutil.ignore_patterns(*ignored))
    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=folder / "checkout", check=True, capture_output=True)
    (archive,) = folder.glob("mtdnn-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "unpacked", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


@pytest.fixture(scope="module")
def installed(sources, tmp_path_factory):
    """A folder with the contents of the wheel, built from the sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(sources)], check=True)
    (wheel,) = folder.glob("mtdnn-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def files_of(folder, *, under):
    """Paths of the files that git would keep."""
    left_out = ("__pycache__", ".pyc", "crash-")
    paths = (path.relative_to(folder) for path in (folder / under).rglob("*") if path.is_file())
    return {str(path) for path in paths if not any(each in str(path) for each in left_out)}


@pytest.mark.parametrize("part", ["mtdnn", "task_defs", "experiments", "tests", "docs", "benchmarks"])
def test_the_sdist_holds_the_whole_of_a_part(sources, part):
    assert files_of(sources, under=part) == files_of(ROOT, under=part)


def test_the_sdist_says_what_it_is_and_how_it_is_tested(sources):
    wanted = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "SECURITY.md", "setup.cfg"}
    wanted |= {"Makefile", "constraints.txt", "constraints-lowest.txt"}
    assert wanted <= {path.name for path in sources.iterdir()}


def test_the_wheel_is_typed_and_holds_no_tests(installed):
    assert (installed / "mtdnn" / "py.typed").is_file()
    assert {path.name.split("-")[0] for path in installed.iterdir()} == {"mtdnn"}


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
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "smart_mtdnn/adapt/science_nli" in done.stdout
