"""Names and notes of MLflow's runs."""

from __future__ import annotations

from affectgrid.reporting.study.notes import columns, run_name


def test_a_run_is_called_by_its_number_its_score_and_what_was_searched():
    values = {"prompt.mode": "learned", "prompt.file": "3x3-plain", "optim.lr": 0.00123456}
    assert run_name(9, "mode learned, file 3x3-plain", values, p=0.7361) == "#09 P .736 learned 3x3-plain 0.00123"
    assert run_name(9, "mode learned, file 3x3-plain", values) == "#09 learned 3x3-plain 0.00123"
    assert run_name(3, "no prompt loss, seed 2", values, arm="no prompt loss", p=-0.02) == (
        "#03 P -.020 no prompt loss, seed 2"
    )
    assert run_name(0, "default", {}, p=1.0) == "#00 P 1.000 default"


def test_a_long_name_is_cut_where_the_list_would_cut_it():
    name = run_name(12, "x", {f"a{n}": 0.123 for n in range(30)}, p=0.5)
    assert name.startswith("#12 P .500 0.123 0.123")
    assert (len(name), name[-1]) == (60, "…")


def test_the_page_of_a_study_has_its_scores_and_what_was_searched():
    shown = columns(["optim.lr", "prompt.mode"])
    assert shown[:5] == [
        "metrics.`best/p`",
        "metrics.`best/ccc_valence`",
        "metrics.`best/ccc_arousal`",
        "params.`optim.lr`",
        "params.`prompt.mode`",
    ]
    assert len(columns([f"p{n}" for n in range(40)])) < 20
