"""Every prompt set of the repository, and every way in which one can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from affectgrid.data.prompts import load_prompt_set, prompt_names
from affectgrid.errors import ConfigError
from affectgrid.regions import RegionGrid

FOLDER = Path(__file__).parents[3] / "search_spaces" / "prompts"
SIZES = {"2x2-plain": 4, "3x3-face": 9, "3x3-plain": 9, "3x3-voice-face": 9, "5x5-plain": 25, "polar8-plain": 9}


def test_the_repository_ships_these_sets():
    assert prompt_names() == tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
    assert SIZES.keys() <= set(prompt_names())


@pytest.mark.parametrize("name", prompt_names())
def test_each_set_loads_and_says_where_its_words_come_from(name):
    prompts = load_prompt_set(name)
    assert prompts.name == name
    assert len(prompts.texts) == prompts.grid.num_regions == SIZES.get(name, prompts.grid.num_regions)
    flat = [text for texts in prompts.texts for text in texts]
    assert len(set(flat)) == len(flat)
    comment = "".join(line for line in (FOLDER / f"{name}.yaml").read_text().splitlines() if line.startswith("#"))
    assert "Russell" in comment


def test_words_lie_where_the_plane_has_them():
    prompts = load_prompt_set("3x3-plain")
    words = dict(zip(prompts.grid.centres, prompts.texts, strict=True))
    assert prompts.grid.centres == RegionGrid.square(3).centres
    assert "excited" in words[prompts.grid.centres[2]][0]  # top right
    assert "sad" in words[prompts.grid.centres[6]][0]  # bottom left
    polar = load_prompt_set("polar8-plain")
    assert polar.grid.centres == RegionGrid.polar(8).centres  # 0.667 in the file means 2/3
    assert polar.grid.names[1] == "pleasure"


def write(tmp_path, change=lambda content: None):
    content = {
        "name": "t",
        "grid": {"kind": "rectangle", "valence": 2, "arousal": 1},
        "regions": [
            {"name": "negative", "centre": [-0.5, 0], "texts": ["sad"]},
            {"name": "positive", "centre": [0.5, 0], "texts": ["glad", "merry"]},
        ],
    }
    change(content)
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_file_by_path(tmp_path):
    prompts = load_prompt_set(write(tmp_path))
    assert prompts.texts == (("sad",), ("glad", "merry"))
    assert prompts.grid == RegionGrid(((-0.5, 0.0), (0.5, 0.0)), ("negative", "positive"))


def test_explicit_centres(tmp_path):
    def explicit(content):
        content["grid"] = {"kind": "explicit"}
        content["regions"][0]["centre"] = [-0.25, 0.75]

    assert load_prompt_set(write(tmp_path, explicit)).grid.centres == ((-0.25, 0.75), (0.5, 0.0))


FAULTS = {
    "CFG-UNKNOWN": lambda c: c["regions"][0].update(text="x"),
    "CFG-VALUE": lambda c: c["regions"][0].update(texts=[]),
    "CFG-REGIONS swapped": lambda c: c["regions"].reverse(),
    "CFG-REGIONS count": lambda c: c["regions"].append({"name": "x", "texts": ["x"]}),
    "CFG-REGIONS duplicate names": lambda c: c["regions"][0].update(name="positive"),
    "CFG-REGIONS no centre": lambda c: (c.update(grid={"kind": "explicit"}), c["regions"][0].pop("centre")),
    "CFG-VALUE kind": lambda c: c["grid"].update(kind="hexagon"),
    "CFG-VALUE missing": lambda c: c.pop("regions"),
    "CFG-GRID": lambda c: (c.update(grid={"kind": "explicit"}), c["regions"][0].update(centre=[2, 0])),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(tmp_path, fault):
    with pytest.raises(ConfigError) as caught:
        load_prompt_set(write(tmp_path, FAULTS[fault]))
    assert caught.value.problems[0].code == fault.split()[0]


def test_an_unknown_key_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'texts'"):
        load_prompt_set(write(tmp_path, FAULTS["CFG-UNKNOWN"]))


@pytest.mark.parametrize("text", ["a: [", "!!python/object/apply:os.system ['true']", "\x00", "[" * 5000, "- x"])
def test_unsafe_and_broken_yaml(tmp_path, text):
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_prompt_set(path)


def test_names_are_looked_up_in_the_folder_of_the_environment_first(tmp_path, monkeypatch):
    write(tmp_path)
    with pytest.raises(ConfigError, match="3x3-plain"):
        load_prompt_set("3x3-plane")
    monkeypatch.setenv("AFFECTGRID_PROMPTS", str(tmp_path))
    assert load_prompt_set("t").name == "t"
    for wrong in ("../t", "no/such.yaml", "nul\0"):
        with pytest.raises(ConfigError, match="CFG-PROMPTS"):
            load_prompt_set(wrong)
