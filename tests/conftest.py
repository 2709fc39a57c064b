"""No hub, one cache a session, and real data only where it is."""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TQDM_DISABLE", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings
from support import REAL_DATA

from mtdnn.cli.main import main

torch.set_num_threads(1)  # tiny models: threads only wait for each other
for instructions in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
    setattr(torch.cpu, instructions, lambda: False)  # so that ``auto`` is fp32 on every machine

# The same examples every time, however busy the machine is.
settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    os.environ["MTDNN_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def mtdnn(monkeypatch, capsys):
    """Run a command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mtdnn", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        return ended.value.code or 0, output.out, output.err

    return run


def pytest_collection_modifyitems(items):
    if REAL_DATA.is_dir():
        return
    for item in items:
        if "realdata" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="the data sets of ../shared/data are not here"))
