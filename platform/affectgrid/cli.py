"""Every job's way in: one pydantic model becomes the command line, and every way out has its exit status.

0 done; 1 done, but part of the work failed; 2 bad input; 130 interrupted (the same command goes on from there).
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
from typing import TypeVar

import tyro
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.markup import escape

from affectgrid.errors import AffectGridError

Options = TypeVar("Options", bound=BaseModel)

_INTERRUPTED = 130


def run(main: Callable[[Options], int], options: type[Options]) -> None:
    """Parse the command line into `options`, call `main`, and exit with the status that it returns."""
    errors = Console(stderr=True, soft_wrap=True)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
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
        errors.print(f"interrupted; nothing finished is lost. Go on with:\n  {_command()}", markup=False)
        status = _INTERRUPTED
    sys.stdout.flush()
    sys.exit(status)


def _interrupt(_signal: int, _frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt


def _command() -> str:
    """The command as it was typed, from the folder that it was typed in."""
    script = Path(sys.argv[0])
    relative = os.path.relpath(script, Path.cwd())
    return shlex.join(["python", relative, *sys.argv[1:]])
