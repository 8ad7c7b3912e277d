"""The shape of the source tree, and the names of files, targets and options that the documents mention."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import REPOSITORY

PACKAGE = REPOSITORY / "platform" / "affectgrid"
FOLDERS = sorted({path.parent for path in PACKAGE.rglob("*.py")})
SOURCES = sorted(
    path for folder in ("platform", "jobs", "tests", "deploy") for path in (REPOSITORY / folder).rglob("*.py")
)
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
MAX_ENTRIES, MAX_LINES, MAX_JOB_LINES, MAX_COLUMNS = 12, 300, 60, 100
LONG = "Longer than 300 lines:"  # begins the reason in a module's docstring
MAX_LONG_FILES = 4


def relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("folder", FOLDERS, ids=relative)
def test_a_folder_is_no_heap(folder: Path) -> None:
    modules = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    packages = [path.name for path in folder.iterdir() if path in FOLDERS]
    if folder == PACKAGE:  # the layers of the architecture, which pyproject.toml lists one by one
        assert max(len(modules), len(packages)) <= MAX_ENTRIES
    else:
        assert len(modules) + len(packages) <= MAX_ENTRIES, sorted(modules + packages)


def test_a_long_file_says_why() -> None:
    long = [path for path in SOURCES if len(path.read_text().splitlines()) > MAX_LINES]
    silent = [relative(path) for path in long if LONG not in (ast.get_docstring(ast.parse(path.read_text())) or "")]
    assert silent == []
    assert len(long) <= MAX_LONG_FILES
    assert not any(PACKAGE in path.parents for path in long)


@pytest.mark.parametrize("job", sorted((REPOSITORY / "jobs").glob("*.py")), ids=lambda path: path.stem)
def test_a_job_is_short(job: Path) -> None:
    assert len(job.read_text().splitlines()) <= MAX_JOB_LINES


@pytest.mark.parametrize("folder", FOLDERS, ids=relative)
def test_a_package_says_what_is_public(folder: Path) -> None:
    """By `__all__`, or by naming modules of its own in the docstring."""
    tree = ast.parse((folder / "__init__.py").read_text())
    words = set(re.findall(r"\w+", ast.get_docstring(tree) or ""))
    own = {path.stem for path in folder.iterdir()} - {"__init__", "__pycache__"}
    assigned = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}  # type: ignore[attr-defined]
    assert "__all__" in assigned or own & words


def test_the_root_package_is_light() -> None:
    script = "import sys; import affectgrid; print(*{'torch', 'ray', 'numpy', 'pydantic'} & set(sys.modules))"
    environment = {"PYTHONPATH": str(REPOSITORY / "platform")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def code_of(text: str) -> tuple[list[str], list[str]]:
    """Inline code, and the lines of blocks of commands."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)], lines


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_a_document_names_what_exists(document: Path) -> None:
    """Links, paths of files, targets of make, and the options of jobs."""
    text = document.read_text()
    missing = [
        target for target in re.findall(r"\]\((?!https?:)([^)#]+)", text) if not (document.parent / target).exists()
    ]
    spans, lines = code_of(text)
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for command in spans + lines:
        missing += [f"make {name}" for name in re.findall(r"\bmake ([a-z][a-z-]*)", command) if name not in targets]
        missing += [f"{job} {option}" for job, option in wrong_options(command)]
    roots = [REPOSITORY, PACKAGE, document.parent, REPOSITORY / "tests"]
    for name in filter(is_ours, spans):
        stem = name.partition(".")[0] + ".py"  # of a name in a module, as in model/prompts.PromptHead
        if not any((root / one).exists() for root in roots for one in (name, stem)):
            missing.append(name)
    assert missing == []


def is_ours(name: str) -> bool:
    """Whether it is a path below a folder of the repository or of the package, or a module."""
    heads = {path.name for root in (REPOSITORY, PACKAGE) for path in root.iterdir()} - {"outputs"}
    path = re.fullmatch(r"([\w.-]+)(/[\w.-]+)*/?", name)
    return bool(path) and ((path[1] in heads and "/" in name) or name.endswith(".py"))


def wrong_options(command: str) -> list[tuple[str, str]]:
    """Jobs that do not exist, with no option; and options that a job does not have."""
    found = []
    for job, rest in re.findall(r"jobs/(\w+)\.py([^`|;&#]*)", command):
        path = REPOSITORY / "jobs" / f"{job}.py"
        if not path.exists():
            found.append((job, ""))
            continue
        found += [
            (job, option) for option in re.findall(r"(?<!\S)--[a-z][\w.-]*", rest) if option not in options_of(job)
        ]
    return found


def options_of(job: str) -> set[str]:
    """Every option of a job, as its own help says."""
    if job not in _OPTIONS:
        command = [sys.executable, f"jobs/{job}.py", "--help-all"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120)
        _OPTIONS[job] = set(re.findall(r"--[a-z][\w.-]*", done.stdout))
    return _OPTIONS[job]


_OPTIONS: dict[str, set[str]] = {}


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_markdown_wraps(document: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    # a table's row and a link cannot be wrapped
    wide = [line for line in prose.splitlines() if len(line) > MAX_COLUMNS and not re.match(r"\||!?\[|    ", line)]
    assert wide == []
