"""The command line: what a person types first.

Exit codes: 0 done, 1 failed, 2 wrong usage. Answers go to stdout, everything said about them to stderr. What a
command needs is loaded when it runs: who asks for help waits for none of it.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ashiato import __version__
from ashiato.cli import ask, demo, importing, up
from ashiato.cli.voice import say
from ashiato.core.errors import AshiatoError, RejectedError, SettingsError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Container logs that outlive their containers, and can prove it.",
)
app.command()(up.up)
app.command()(demo.demo)
app.command(name="import")(importing.import_)
app.command()(ask.search)
app.command()(ask.timeline)
app.command()(ask.logs)
app.command()(ask.pods)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ashiato {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command that was typed."""
    try:
        app()
    except (SettingsError, RejectedError) as error:
        _fail(str(error), 2)
    except AshiatoError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        # Whoever read our answer has seen enough; nothing may be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _fail(f"{error.strerror or error}{where}", 1)
    except KeyboardInterrupt:
        _fail("stopped", 1)


def _fail(sentence: str, code: int) -> None:
    say(sentence)
    sys.exit(code)
