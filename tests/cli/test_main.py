"""The command line as a shell sees it: version, completion, and what an option does not take."""

import pytest

import mtdnn as package


def test_the_version_is_the_package_s(mtdnn):
    assert mtdnn("--version")[:2] == (0, f"mtdnn {package.__version__}\n")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("mtdnn pred", {"predict"}), ("mtdnn tasks ne", {"new"}), ("mtdnn predict --bad-rows s", {"stop", "skip"})],
)
def test_a_shell_completes_verbs_and_the_values_of_options(mtdnn, monkeypatch, typed, expected):
    monkeypatch.setenv("_MTDNN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert set(mtdnn()[1].split()) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_shown(mtdnn, monkeypatch, shell):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, out, _ = mtdnn("--show-completion", shell)
    assert code == 0
    assert f"_MTDNN_COMPLETE=complete_{shell}" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "quickstart", "--seeds", "one"),
        ("run", "quickstart", "--fractions", "0.1;0.2"),
        ("run", "quickstart", "--jobs", "two"),
        ("predict", "model", "-", "--precision", "fp8"),
        ("predict", "model", "-", "--format", "xml"),
        ("predit",),
    ],
)
def test_what_an_option_does_not_take_ends_with_2_whatever_reads_it(mtdnn, arguments):
    code, _, err = mtdnn(*arguments)
    assert code == 2
    assert arguments[-2 if len(arguments) > 1 else 0] in err
    assert "Traceback" not in err
