"""The folder `platform/` must never shadow the standard library's module of that name."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import REPOSITORY


def test_platform_is_a_source_root_and_no_package(repository: Path) -> None:
    assert not (repository / "platform" / "__init__.py").exists()


def test_the_standard_module_wins_under_pytest() -> None:
    assert platform.system() == "Linux"
    assert "affectgrid" not in (platform.__file__ or "")


@pytest.mark.parametrize("command", [["-c", "import platform, torch; platform.system()"], ["jobs/tune.py", "--help"]])
def test_the_standard_module_wins_in_a_driver(repository: Path, command: list[str]) -> None:
    subprocess.run([sys.executable, *command], cwd=repository, check=True, capture_output=True, timeout=120)


def test_the_standard_module_wins_in_a_worker_with_a_working_dir(repository: Path, tmp_path: Path) -> None:
    script = """
import ray, sys
ray.init("local", num_cpus=1, include_dashboard=False, logging_level="ERROR",
         runtime_env={"working_dir": sys.argv[1], "excludes": [".git", ".venv", "outputs"]})

@ray.remote
def where():
    import os, platform, torch
    assert os.path.isdir("platform/affectgrid"), os.listdir()
    return platform.system()

print(ray.get(where.remote()))
"""
    path = tmp_path / "driver.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, str(path), str(repository)], check=True, capture_output=True, text=True, timeout=180
    )
    assert done.stdout.strip() == "Linux"


def loaded(repository: Path, modules: str, names: tuple[str, ...]) -> list[str]:
    """Which of `names` a plain interpreter has loaded that imports `modules`."""
    script = (
        f"import sys; sys.path.insert(0, 'platform'); import {modules};"
        f"print(*[name for name in {names} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=repository, check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_the_rim_alone_imports_ray_and_mlflow(repository: Path) -> None:
    """A plain interpreter that imports the method and the training loop has met neither."""
    rim = ("ray", "mlflow", "optuna", "av", "open_clip", "transformers")
    assert loaded(repository, "affectgrid.training.loop, affectgrid.model.fusion", rim) == []


def test_an_encode_plan_needs_no_ray(repository: Path) -> None:
    """What a run has to do is decided, and tested, without it."""
    assert loaded(repository, "affectgrid.distributed.encode.plan", ("ray", "torch")) == []


def test_a_worker_of_a_search_imports_what_a_trial_needs(repository: Path) -> None:
    """Each of a search's processes waits for these imports before its first trial."""
    slow = ("optuna", "sqlalchemy", "sklearn", "mlflow", "matplotlib", "scipy", "torchvision", "torch._dynamo")
    assert loaded(repository, "affectgrid.distributed.tune.trial", slow) == []


WHERE = """
import affectgrid
from affectgrid.cli import run
from affectgrid.settings import Settings

run(lambda options: print(affectgrid.__file__) or 0, Settings)
"""


def test_a_job_runs_the_package_beside_it_and_not_an_installed_one(repository: Path, tmp_path: Path) -> None:
    """As an upload by ``--working-dir .`` lies beside a checkout that is installed."""
    shutil.copytree(repository / "platform", tmp_path / "platform", ignore=shutil.ignore_patterns("*.egg-info"))
    job = tmp_path / "jobs" / "where.py"
    job.parent.mkdir()
    job.write_text(WHERE)
    environment = os.environ | {"PYTHONPATH": str(repository / "platform")}
    done = subprocess.run([sys.executable, job], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(tmp_path / "platform" / "affectgrid" / "__init__.py"), done.stderr


LOOKS = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    heavy = {"torch", "ray", "mlflow", "transformers", "open_clip", "optuna"} & set(sys.modules)
    print(end.code, *sorted(heavy))
"""


@pytest.mark.parametrize("options", [("--help",), ("--no-such-option",)])
@pytest.mark.parametrize("job", sorted(path.stem for path in (REPOSITORY / "jobs").glob("*.py")))
def test_a_job_looks_at_its_options_before_it_imports_what_is_slow(job: str, options: tuple[str, ...]):
    command = [sys.executable, "-c", LOOKS, f"jobs/{job}.py", *options]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == ("0" if options == ("--help",) else "2"), done.stderr


def test_a_served_model_needs_no_ray(repository: Path) -> None:
    """It is loaded where only its own requirements are."""
    heavy = ("ray", "optuna", "sklearn", "matplotlib", "rich")
    assert loaded(repository, "affectgrid.serving, affectgrid.distributed.encode.in_process", heavy) == []
