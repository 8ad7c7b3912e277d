"""The entry point of every job: a pydantic model becomes the command line, and an outcome becomes an exit status.

0 done; 1 done, but part of the work failed; 2 bad input; 130 interrupted (the same command resumes from there).
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import tyro
from pydantic import BaseModel, Field, ValidationError
from rich.console import Console
from rich.markup import escape

from affectgrid.errors import AffectGridError, ConfigError, Problem
from affectgrid.settings import Settings
from affectgrid.storage import without_credentials

Options = TypeVar("Options", bound=BaseModel)

_INTERRUPTED = 130
CHECKOUT = Path(__file__).resolve().parents[2]


def _default_out() -> str:
    return os.environ.get("AFFECTGRID_OUT") or str(CHECKOUT / "outputs")


class OutOption(Settings):
    """Where a job keeps its results."""

    out: str = Field(
        default_factory=_default_out,
        description="folder, or URI such as s3://bucket/x, for all results: features, studies, models, reports; "
        "default: AFFECTGRID_OUT, else outputs in this checkout",
    )


class JobOptions(OutOption):
    """Options of every job that uses Ray."""

    address: str | None = Field(None, description="Ray cluster to join; by default RAY_ADDRESS, else a private one")


def run(main: Callable[[Options], int], options: type[Options]) -> None:
    """Parse the command line into `options`, call `main`, and exit with the status that it returns."""
    _use_the_scripts_checkout()
    errors = Console(stderr=True, soft_wrap=True)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _take_credentials_from_the_command_line()
        status = main(tyro.cli(options, description=options.__doc__))
    except ValidationError as error:
        for item in error.errors():
            place = ".".join(str(part) for part in item["loc"])
            errors.print(f"CFG-VALUE {place}: {item['input']!r}; {item['msg']}; see --help", style="red", markup=False)
        status = 2
    except AffectGridError as error:
        errors.print(f"[red]{escape(str(error))}[/red]")
        status = 2
    except KeyboardInterrupt:
        errors.print(f"interrupted; nothing finished is lost. Resume with:\n  {_command()}", markup=False)
        status = _INTERRUPTED
    sys.stdout.flush()
    sys.exit(status)


def _use_the_scripts_checkout() -> None:
    """Restart with the package beside the running script, where another one was imported.

    An editable install names one checkout. A job from another checkout, such as the copy that Ray makes for
    ``--working-dir .``, would otherwise run the code of the first.
    """
    own = Path(sys.argv[0]).resolve().parents[1] / "platform"
    if (own / "affectgrid").is_dir() and own != CHECKOUT / "platform":
        path = os.pathsep.join([str(own), *filter(None, [os.environ.get("PYTHONPATH")])])
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONPATH": path})  # noqa: S606


def _take_credentials_from_the_command_line() -> None:
    """Move the key and secret of an ``s3://key:secret@bucket`` into this process's environment.

    The command line goes into files, tags and logs, so it must not contain them. Raises ConfigError (CFG-SECRET) for
    credentials of another kind, and where a cluster would need them.
    """
    for place, argument in enumerate(sys.argv):
        shown = without_credentials(argument)
        if shown == argument:
            continue
        sys.argv[place] = shown
        found = re.search(r"s3://([^:@/]+):([^@/]+)@", argument)
        elsewhere = os.environ.get("RAY_ADDRESS") or any(each.startswith("--address") for each in sys.argv)
        if found is None or elsewhere:
            found_here, expected = "credentials on the command line", "an address without them"
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on every node, or give the machines a role"
            raise ConfigError(Problem("CFG-SECRET", where=shown, found=found_here, expected=expected, hint=hint))
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = map(unquote, found.groups())


def _interrupt(_signal: int, _frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt


def _command() -> str:
    """The command as it was typed, from the folder in which it was typed."""
    script = Path(sys.argv[0])
    relative = os.path.relpath(script, Path.cwd())
    return shlex.join(["python", relative, *sys.argv[1:]])
