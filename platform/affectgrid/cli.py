"""The entry point of every job: a pydantic model becomes the command line, and an outcome becomes an exit status.

0 done; 1 done, but part of the work failed; 2 bad input; 130 interrupted (the same command resumes from there).
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar, get_args, get_origin

import tyro
from pydantic import BaseModel, Field, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from affectgrid.credentials import credentials_in, without_credentials
from affectgrid.errors import AffectGridError, ConfigError, Problem
from affectgrid.settings import Settings

Options = TypeVar("Options", bound=BaseModel)

_INTERRUPTED = 130
_ADDRESSES = ("AFFECTGRID_OUT", "MLFLOW_TRACKING_URI")
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
        _take_credentials()
        status = _print_short_help(options) if _asks_short_help() else main(_parse(options))
    except ValidationError as error:
        for item in error.errors():
            place = ".".join(str(part) for part in item["loc"])
            errors.print(
                f"CFG-VALUE {place}: {item['input']!r}; {item['msg']}; see --help-all", style="red", markup=False
            )
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


def _take_credentials() -> None:
    """Move credentials in addresses on the command line and in the environment into variables of their own.

    An address goes into files, tags, logs and Ray's own records, so it must not contain them. Raises ConfigError
    (CFG-SECRET) for credentials of another kind, for two of one kind, and where a cluster would need them.
    """
    taken: dict[str, str] = {}

    def take(text: str, hint: str = "") -> str:
        shown, found = without_credentials(text), credentials_in(text)
        if shown != text and not found:
            hint = "give them by the environment or a file that its client reads"
        if any(taken.get(name, value) != value for name, value in found.items()):
            hint = "give all addresses the same ones: a process has one of a kind"
        if hint:
            found_here, expected = "credentials in an address", "an address without them"
            raise ConfigError(Problem("CFG-SECRET", where=shown, found=found_here, expected=expected, hint=hint))
        taken.update(found)
        return shown

    arguments = sys.argv[:]
    sys.argv[:] = map(without_credentials, arguments)  # all of them, before one is refused
    for argument in arguments:
        take(argument)
    for name in _ADDRESSES:
        if credentials_in(os.environ.get(name, "")):
            os.environ[name] = take(os.environ[name])
    elsewhere = os.environ.get("RAY_ADDRESS") or any(each.startswith("--address") for each in sys.argv)
    if elsewhere and "AWS_SECRET_ACCESS_KEY" in taken:
        hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on every node, or give the machines a role"
        where, found = "the command line", "credentials for a bucket, and a cluster"
        raise ConfigError(Problem("CFG-SECRET", where=where, found=found, expected="no credentials", hint=hint))
    os.environ.update(taken)


_ALL = "--help-all"


def _parse(options: type[Options]) -> Options:
    arguments = ["--help" if each == _ALL else each for each in sys.argv[1:]]
    return tyro.cli(options, description=options.__doc__, args=arguments)


def _asks_short_help() -> bool:
    return bool({"-h", "--help"} & set(sys.argv[1:])) and _ALL not in sys.argv


def _print_short_help(options: type[BaseModel]) -> int:
    """The job's own options; of nested ones, such as a model's, what they are about."""
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2, 0, 0))
    groups = []
    own_first = sorted(options.model_fields.items(), key=lambda item: item[0] not in options.__annotations__)
    for name, field in own_first:
        kind, own = field.annotation, next((m.name for m in field.metadata if getattr(m, "name", None)), name)
        flag = "--" + own.replace("_", "-")
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            groups.append((f"{flag}.*", (kind.__doc__ or "").strip().partition("\n")[0]))
            continue
        if any(marker is tyro.conf.Positional or "Positional" in repr(marker) for marker in field.metadata):
            flag = own.upper()
        default = "" if field.is_required() else field.get_default(call_default_factory=True)
        shown = "" if default in ("", None, (), False) else f" (default: {default})"
        choices = [
            str(value) for part in (kind, *get_args(kind)) if get_origin(part) is Literal for value in get_args(part)
        ]
        table.add_row(" ".join([flag, "|".join(choices)]), escape(f"{field.description or ''}{shown}"))
    for row in groups:
        table.add_row(*row)
    console.print(f"usage: {_command().partition(' -')[0]} [OPTIONS]\n\n{options.__doc__}\n", markup=False)
    console.print(table)
    console.print(f"\n{_ALL} explains every setting, with its type and default.", markup=False)
    return 0


def _interrupt(_signal: int, _frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt


def _command() -> str:
    """The command as it was typed, from the folder in which it was typed."""
    script = Path(sys.argv[0])
    relative = os.path.relpath(script, Path.cwd())
    return shlex.join(["python", relative, *sys.argv[1:]])
