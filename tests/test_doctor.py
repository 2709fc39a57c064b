"""What the doctor concludes from what was measured, and how memory that is not there is told."""

import pytest
import torch
from support import toy_batch, write_toy_experiment

from mtdnn.config import load_experiment
from mtdnn.doctor import Diagnosis, Proposal, require_fit
from mtdnn.errors import ConfigError, MemoryExceededError, NonFiniteError, RunError
from mtdnn.memory import forget_peak, free_bytes, memory_for, parse_bytes, peak_bytes
from mtdnn.memory_probe import Findings, Measurement
from mtdnn.plan import plan_cells

CPU = torch.device("cpu")
TWO = (Measurement(4, 500, 0.1), Measurement(8, 700, 0.2))


@pytest.mark.parametrize(("text", "count"), [("2GB", 2 * 10**9), ("1.5 mb", 1_500_000), ("70", 70), ("3B", 3)])
def test_sizes_are_read_in_powers_of_1000(text, count):
    assert parse_bytes(text, option="--memory-limit") == count


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "2GiB"])
def test_other_sizes_are_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"--memory-limit .*for example 2GB"):
        parse_bytes(text, option="--memory-limit")


def test_the_peak_of_a_larger_batch_lies_on_the_line_through_the_last_two():
    found = Findings(limit=1000, measured=TWO)
    assert found.expected(8) == 700
    assert found.expected(16) == 1100
    assert Findings(limit=1000, loading=1200, measured=TWO).expected(16) == 1200


def test_only_what_was_measured_fits_and_loading_counts():
    found = Findings(limit=600, measured=TWO)
    assert found.largest() == TWO[0]
    assert found.fits(4)
    assert not found.fits(8)
    assert Findings(limit=600, loading=601, measured=TWO).largest() is None


def test_what_does_not_fit_is_told_with_the_stage_the_batch_and_what_does(tmp_path):
    cell = plan_cells(load_experiment(write_toy_experiment(tmp_path / "toy")))[0]
    proposals = [Proposal({"batch_size": 4, "accumulate": 2}, TWO[0]), Proposal({"precision": "bf16"}, TWO[1])]
    found = Diagnosis(cell, "nli", 8, 32, 8, Findings(limit=0.6e9, measured=TWO, ending="it was ended"), proposals)
    with pytest.raises(MemoryExceededError) as error:
        require_fit([found])
    told = str(error.value)
    assert "mtdnn/joint/joint/full/1 does not fit: a batch of 8 rows x 32 tokens of task 'nli'" in told
    assert "may have 0.60 GB" in told
    assert "measuring it, it was ended" in told
    assert "--set train.batch_size=4 --set train.accumulate=2  (" in told
    assert "--set train.precision=bf16  (" in told


def test_the_peak_can_be_measured_anew():
    forget_peak(CPU)
    before = peak_bytes(CPU)
    block = torch.ones(2**24)
    assert 0.9 * block.nbytes < peak_bytes(CPU) - before < 1.5 * block.nbytes
    del block
    forget_peak(CPU)
    assert peak_bytes(CPU) < before + 2**24
    assert free_bytes(CPU) > before


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_memory_that_is_not_there_is_told_with_the_batch(error):
    told = r"training on task 'nli', 3 rows x 5 tokens .*mtdnn doctor"
    with pytest.raises(MemoryExceededError, match=told), memory_for([toy_batch("nli")], doing="training on"):
        raise error


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), memory_for([], doing="training on"):
        raise RuntimeError("shapes cannot be multiplied")


def test_an_allocation_that_really_fails_is_told():
    with pytest.raises(MemoryExceededError, match="3 rows"), memory_for([toy_batch("nli")], doing="training on"):
        torch.empty(2**50)


@pytest.mark.parametrize(
    ("failures", "code"),
    [
        ([MemoryExceededError(""), MemoryExceededError("")], 9),
        ([MemoryExceededError(""), NonFiniteError("")], 8),
        ([OSError()], 8),
        ([], 8),
    ],
)
def test_a_run_ends_with_the_code_of_what_failed_where_all_agree(failures, code):
    assert RunError("", failures).exit_code == code
