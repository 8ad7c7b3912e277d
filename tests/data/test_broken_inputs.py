"""Every kind of bad input, made for real, and the code that it gets; a clean corpus gets none."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from affectgrid.data.annotations import LabelFile, read_annotation
from affectgrid.data.catalog import read_aff_wild2
from affectgrid.data.export import write_submission
from affectgrid.data.validation import validate
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import encode
from affectgrid.encoders.tiny import tiny_visual_directory
from affectgrid.encoders.visual import load_visual
from affectgrid.errors import AffectGridError, AnnotationError, MediaError
from affectgrid.media.video import probe_video
from affectgrid.search.space.reading import load_space
from affectgrid.search.study.ledger import open_ledger
from support.broken_corpus import ERRORS, FILES, HARMLESS, HEADER, WARNINGS, Break, edit
from support.small_corpus import NUM_FRAMES, film, write_corpus


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("clean"))


@pytest.fixture
def corpus(clean: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(clean, tmp_path / "corpus"))


@pytest.fixture(scope="module")
def job(repository: Path) -> Any:
    """jobs/validate.py as a module."""
    spec = importlib.util.spec_from_file_location("validate_job", repository / "jobs" / "validate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where pydantic looks up the types of its fields
    spec.loader.exec_module(module)
    return module


def check(job: Any, root: Path | str, out: Path, **options: Any) -> tuple[int, list[str]]:
    """Status and codes of the command; an error that leaves it exits with 2."""
    try:
        status = job.main(job.Validate(data=str(root), out=str(out), **options))
    except AffectGridError as error:
        return 2, sorted(problem.code for problem in error.problems)
    return status, sorted(problem["code"] for problem in json.loads((out / "problems.json").read_text()))


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_stops_the_command(job: Any, corpus: Path, tmp_path: Path, case: str) -> None:
    breaks, expected = ERRORS[case]
    breaks(corpus)
    assert check(job, corpus, tmp_path / "out") == (2, expected)


@pytest.mark.parametrize("case", WARNINGS)
def test_a_warning_does_not(job: Any, corpus: Path, tmp_path: Path, case: str) -> None:
    breaks, expected = WARNINGS[case]
    breaks(corpus)
    assert check(job, corpus, tmp_path / "out") == (0, expected)


@pytest.mark.parametrize("case", HARMLESS)
@pytest.mark.parametrize("deep", [False, True])
def test_a_clean_corpus_gets_no_code(job: Any, corpus: Path, tmp_path: Path, case: str, deep: bool) -> None:
    HARMLESS[case](corpus)
    assert check(job, corpus, tmp_path / "out", deep=deep) == (0, [])


def test_options_of_the_command(job: Any, corpus: Path, tmp_path: Path) -> None:
    edit(7, "0.5,happy")(corpus)
    out = tmp_path / "out"
    assert check(job, corpus, out, on_bad_label="mask") == (0, ["VAL-MASKED", "VAL-ODD-LABEL"])
    (tmp_path / "names").write_text("b\n")
    assert check(job, corpus, out, tracks=[tmp_path / "names"]) == (0, [])
    (tmp_path / "names").write_text("c\n")
    assert check(job, corpus, out, tracks=[tmp_path / "names"]) == (2, ["CAT-TRACKS"])
    assert check(job, "a\0b", out) == (2, ["CAT-ROOT"])


def test_what_the_readers_refuse(tmp_path: Path) -> None:
    for name in ("http://localhost/a.mp4", "a\0b.mp4"):
        with pytest.raises(MediaError, match="MED-NAME"):
            probe_video(Path(name))
    with pytest.raises(MediaError, match="MED-LONG"):
        probe_video(film(tmp_path / "long.mp4"), max_frames=NUM_FRAMES - 1)
    (tmp_path / "odd.txt").write_text(HEADER + "x,0\n")
    with pytest.raises(AnnotationError, match="ANN-MASKED"):
        read_annotation(LabelFile(tmp_path / "odd.txt", "mask"))


SPACE = "name: t\ntrials: 2\n"
LR = "space: {optim.lr: {float: [1.0e-4, 1.0e-2]}}\n"
SPACES = {
    "unknown key": ("spaec: {}\n", "SPACE-KEY"),
    "unknown setting": ("space: {optim.lrr: {float: [0.1, 1]}}\n", "SPACE-NAME"),
    "sigma of 0": ("space: {prompt.sigma_ratio: {float: [0, 1]}}\n", "SPACE-BOUND"),
    "low above high": ("space: {optim.lr: {float: [1, 0.1]}}\n", "SPACE-VALUE"),
    "a log scale from 0": ("space: {prompt.weight: {float: [0, 1], log: true}}\n", "SPACE-VALUE"),
    "unknown parent": ("space: {optim.lr: {float: [0.1, 1], when: prompt.mod == none}}\n", "SPACE-WHEN"),
    "conditions in a circle": (
        "space:\n  model.dropout: {float: [0, 0.5], when: optim.epochs == 3}\n"
        "  optim.epochs: {int: [1, 5], when: model.dropout == 0}\n",
        "SPACE-WHEN",
    ),
    "unsafe YAML": ("space: !!python/object/apply:os.system [exit]\n", "SPACE-YAML"),
    "a metric that is never reported": (f"{LR}objective: val/f1\n", "SPACE-VALUE"),
}


@pytest.mark.parametrize("case", SPACES)
def test_a_search_space_with_a_mistake(tmp_path: Path, case: str) -> None:
    text, code = SPACES[case]
    (tmp_path / "space.yaml").write_text(SPACE + text)
    with pytest.raises(AffectGridError) as caught:
        load_space(tmp_path / "space.yaml")
    assert code in {problem.code for problem in caught.value.problems}


def test_a_space_that_changed_under_its_study(tmp_path: Path) -> None:
    for text in (LR, LR.replace("1.0e-2", "0.1")):
        (tmp_path / "space.yaml").write_text(SPACE + text)
        space = load_space(tmp_path / "space.yaml")
        if text == LR:
            with open_ledger(tmp_path / "study", space, data="d"):
                pass
    with pytest.raises(AffectGridError, match="STUDY-CHANGED"), open_ledger(tmp_path / "study", space, data="d"):
        pass


def pickled(weights: Path) -> None:
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()


def misshapen(weights: Path) -> None:
    tensors = load_file(weights)
    name = sorted(tensors)[0]
    save_file({**tensors, name: torch.zeros(3, 5, 7)}, weights)


@pytest.mark.parametrize(
    ("breaks", "code"), [(pickled, "MOD-PICKLE"), (misshapen, "MOD-FIT"), (Path.unlink, "MOD-WEIGHTS")]
)
def test_weights_that_are_not_loaded(tmp_path: Path, breaks: Break, code: str) -> None:
    model = Path(shutil.copytree(tiny_visual_directory(), tmp_path / "model"))
    breaks(next(model.glob("*.safetensors")))
    with pytest.raises(AffectGridError, match=code):
        load_visual(str(model))


@pytest.mark.parametrize(
    ("line", "code"), [("c/00001.jpg", "EXP-TRACK"), ("a/00009.jpg", "EXP-FRAMES"), ("a/first.jpg", "EXP-TEMPLATE")]
)
def test_a_template_that_does_not_fit(tmp_path: Path, line: str, code: str) -> None:
    (tmp_path / "template.txt").write_text(f"image_location,valence,arousal\n{line}\n")
    with pytest.raises(AffectGridError, match=code):
        write_submission(tmp_path / "out.txt", tmp_path / "template.txt", {"a": np.zeros((1, 2))})


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("crop", ["crops", "frame"])
def test_the_same_tracks_fail_in_validate_and_in_encode(clean: Path, tmp_path: Path, crop: Any) -> None:
    """Each case breaks a corpus of its own; their first tracks are then put into one."""
    everything = tmp_path / "all"
    for name, breaks in FILES.items():
        one = Path(shutil.copytree(clean, tmp_path / name))
        breaks(one)
        for path in [*one.glob("videos/a.*"), *one.glob("cropped_aligned/a")]:
            target = everything / path.relative_to(one).with_name(f"{name}{path.suffix}")
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    catalog = read_aff_wild2(everything)
    assert len(catalog.tracks) == len(FILES)
    config = EncodeConfig()
    config = config.model_copy(update={"visual": config.visual.model_copy(update={"crop": crop})})
    quarantined = {failure.track for failure in encode(catalog, tmp_path / "store", config).quarantined}
    problems = [p for p in validate(catalog, crop=crop, deep=True) if p.severity == "error"]
    refused = {part for p in problems for part in Path(p.where).with_suffix("").parts} & {t.id for t in catalog.tracks}
    assert refused == quarantined
    assert {"empty", "torn", "cut", "sound", "list"} <= refused
    assert not {"clean", "short", "uneven"} & refused
    assert ({"crop", "cropless", "zero"} <= refused) == (crop == "crops")
