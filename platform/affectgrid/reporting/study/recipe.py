"""How to go on from a study's best trial: its configuration, and the commands that use it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence

from affectgrid.reporting import html

_WIDTH = 96


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The best configuration and commands that run as they are, in the folder in which the study's was typed.

    Args:
        space: a search space in YAML whose only arm is the best configuration.
        place: of the file that holds it.
        commands: what each is for, and the command.
    """

    space: str
    place: str
    commands: tuple[tuple[str, str], ...] = ()


def recipe_section(found: Recipe) -> html.Section:
    """The commands to copy, and the configuration."""
    note = f"The configuration as a search space ({found.place}): jobs/tune.py --space trains it with other seeds."
    code = [*found.commands, (note, found.space)]
    return html.Section("The best configuration, and how to use it", code=code)


def command_line(job: str, options: Sequence[Sequence[str]]) -> str:
    """``python jobs/<job>.py`` with options, each a name and its values, over as many lines as it takes."""
    lines = [f"python jobs/{job}.py"]
    for option in options:
        words = shlex.join(option)
        if len(lines[-1]) + 1 + len(words) > _WIDTH:
            lines.append(f"   {words}")
        else:
            lines[-1] += f" {words}"
    return " \\\n".join(lines)
