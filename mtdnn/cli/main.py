"""``mtdnn``: the verbs, and how a user's mistake is shown."""

import sys
from typing import Annotated

import typer

import mtdnn
from mtdnn.cli import (
    adapt,
    analyse,
    check,
    doctor,
    evaluate,
    export,
    import_mtdnn,
    methods,
    predict,
    report,
    run,
    submit,
    tasks,
)
from mtdnn.errors import MtdnnError

PROGRAM = "mtdnn"  # however it was started, for what completes it knows it by its name
app = typer.Typer(
    name=PROGRAM,
    help="Multi-task fine-tuning of text encoders with SMART regularization.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("doctor")(doctor.doctor)
app.command("adapt")(adapt.adapt)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("check")(check.check)
app.command("submit")(submit.submit)
app.command("import-mtdnn")(import_mtdnn.import_mtdnn)
app.command("report")(report.report)
app.command("compare")(report.compare)
app.add_typer(tasks.app, name="tasks")
app.add_typer(methods.app, name="methods")
app.add_typer(analyse.app, name="analyse")

DEBUG = "--debug"


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mtdnn {mtdnn.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True)] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show tracebacks of errors.")] = False,
) -> None:
    """Multi-task fine-tuning of text encoders with SMART regularization."""


def main() -> None:
    """Run the command line; what goes wrong is one message and its own exit code, without a traceback."""
    from mtdnn.interruptions import Interrupted, interruptions

    try:
        with interruptions.caught():
            app(prog_name=PROGRAM)
    except Interrupted as stopped:
        typer.secho(str(stopped), fg="yellow", err=True)
        sys.exit(stopped.exit_code)
    except MtdnnError as error:
        if DEBUG in sys.argv:
            raise
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if DEBUG in sys.argv:
            raise
        from mtdnn.crash import OWN_FAULT, write_crash_report

        typer.secho(f"a fault of mtdnn's own: {write_crash_report(error)}", fg="red", err=True)
        sys.exit(OWN_FAULT)
