"""The tables of a study, the caveat under them, and the lines that are printed."""

from __future__ import annotations

from pathlib import Path

from affectgrid.data.export import Filled
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.reporting.caveat import caveat, look_ahead_caveat
from affectgrid.reporting.scores import prediction_lines
from affectgrid.reporting.study.tables import (
    arm_rows,
    every_trial,
    failure_rows,
    headline,
    leaderboard,
    pareto_rows,
    spread,
    study_caveat,
    study_tables,
)
from affectgrid.search.space.objective import Goal
from affectgrid.search.study.records import front
from unit.analysis.test_summary import study, trial


def test_the_headline_counts(tmp_path: Path):
    whole = study(tmp_path, *(trial(number, 0.5) for number in range(4)))
    assert headline(whole) == "s: 4 of 4 trials, 12 s"
    part = study(tmp_path, trial(0, 0.5), trial(1, None, "failed", reason="loss is NaN"))
    assert headline(part) == "s: 2 of 4 trials, 1 failed, 12 s"
    assert failure_rows(part) == [{"trial": "1", "what": "l1", "reason": "loss is NaN"}]
    late = study(tmp_path, trial(0, 0.5), out_of_time=True)
    assert headline(late) == "s: 1 of 4 trials, time budget spent, 12 s"


def test_a_front_is_shown_with_its_settings(tmp_path: Path):
    trials = [trial(1, 0.6, costs={"parameters": 100.0}), trial(2, 0.3, costs={"parameters": 40.0})]
    goals = (Goal(maximize="val/p_best"), Goal(minimize="parameters"))
    summary = study(tmp_path, *trials, pareto=front(trials, goals))
    assert pareto_rows(summary) == [
        {"trial": "1", "P": "0.600", "parameters": "100", "settings": "lr 0.001"},
        {"trial": "2", "P": "0.300", "parameters": "40", "settings": "lr 0.002"},
    ]
    assert study_tables(summary)[0].title == "Pareto front"


def test_the_leaderboard_shows_scores_and_what_differs(tmp_path: Path):
    summary = study(tmp_path, trial(1, 0.4, duration_s=2.0), trial(2, 0.6, duration_s=3.04))
    assert leaderboard(summary) == [
        {"trial": "2", "CCC-V": "0.500", "CCC-A": "0.700", "P": "0.600", "s": "3.0", "settings": "lr 0.002"},
        {"trial": "1", "CCC-V": "0.300", "CCC-A": "0.500", "P": "0.400", "s": "2.0", "settings": "lr 0.001"},
    ]
    assert len(leaderboard(summary, top=1)) == 1


def test_every_trial_has_a_column_for_every_parameter(tmp_path: Path):
    sampled = trial(1, 0.6, params={"optim.lr": 0.001, "prompt.mode": "none"}, duration_s=2.0)
    others = [
        trial(0, 0.4, params={"optim.lr": 0.002, "prompt.mode": "fixed", "prompt.sigma_ratio": 0.5}, duration_s=1.0),
        trial(2, None, "failed", params={"optim.lr": 1.0, "prompt.mode": "fixed", "prompt.sigma_ratio": 0.2}),
    ]
    table = every_trial(study(tmp_path, others[0], sampled, others[1]))
    assert table.sortable
    assert table.headings == ("trial", "state", "CCC-V", "CCC-A", "P", "s", "lr", "mode", "sigma_ratio")
    assert table.rows == (
        ("1", "complete", "0.500", "0.700", "0.600", "2.0", "0.001", "none", ""),
        ("0", "complete", "0.300", "0.500", "0.400", "1.0", "0.002", "fixed", "0.5"),
        ("2", "failed", "", "", "", "0.0", "1", "fixed", "0.2"),
    )


def test_arms_have_mean_and_standard_deviation_of_a_sample(tmp_path: Path):
    trials = [
        trial(n, p, arm=arm, duration_s=1.5)
        for n, (arm, p) in enumerate([("full", 0.5), ("audio", 0.3), ("full", 0.7)])
    ]
    rows = arm_rows(study(tmp_path, *trials, trial(3, None, "failed", arm="audio")))
    assert rows[0] == {
        "arm": "full",
        "seeds": "2",
        "CCC-V": "0.500 ± 0.141",  # of 0.4 and 0.6: sqrt(0.02)
        "CCC-A": "0.700 ± 0.141",
        "P": "0.600 ± 0.141",
        "s": "3",
    }
    assert (rows[1]["seeds"], rows[1]["P"]) == ("1", "0.300")  # the one that failed is not a seed


def test_spread_of_nothing_and_of_one():
    assert (spread([]), spread([0.5])) == ("–", "0.500")


def test_the_caveat_names_what_is_not_real():
    assert caveat(["ViT-B-32/openai", "logmel"]) == ""
    said = caveat(["tiny", "tiny"], rendered=True)
    assert said.startswith("Made with untrained `tiny` encoders on the rendered corpus:")
    assert "synthetic features" in caveat(["synthetic"])


def test_the_caveat_stands_under_the_scores(tmp_path: Path):
    tiny = study(tmp_path, trial(0, 0.5), encoders={"visual": "tiny", "audio": "tiny"}, rendered=True)
    assert study_tables(tiny)[0].note == caveat(["tiny"], rendered=True)
    assert study_tables(study(tmp_path, trial(0, 0.5)))[0].note == ""


def test_the_lines_of_a_prediction_say_what_is_missing_and_why():
    lines = list(prediction_lines("s3://b/x", 2, 80, "s3://b/x/s.txt", [Filled("a", 3, 4)], "mind", {"a": "no video"}))
    assert lines[0].startswith("2 tracks, 80 frames: s3://b/x/<track>.csv")
    assert lines[1:] == [
        "the challenge's file: s3://b/x/s.txt",
        "filled, as no video has them: 2 frames of 1 tracks, listed in filled.csv beside it",
        "mind",
        "not predicted: a: no video",
    ]
    assert len(list(prediction_lines("/p", 2, 80, "", (), "", {}))) == 1


def encoders(*, causal: bool, rate_hz: float | None = None) -> dict[str, str]:
    visual, audio = VisualStream(causal=causal, frame_rate_hz=rate_hz), AudioStream(causal=causal)
    return {"visual_stream": visual.model_dump_json(), "audio_stream": audio.model_dump_json()}


def test_a_causal_model_over_features_that_look_ahead_is_told():
    assert "up to 0.7 s ahead" in look_ahead_caveat(encoders(causal=False), causal=True)
    assert "up to 1 s ahead" in look_ahead_caveat(encoders(causal=False, rate_hz=1.0), causal=True)
    assert look_ahead_caveat(encoders(causal=True, rate_hz=1.0), causal=True) == ""
    assert look_ahead_caveat(encoders(causal=False), causal=False) == ""
    assert look_ahead_caveat({"audio": "planted"}, causal=True) == ""
    assert EncodeConfig(causal=True).audio.causal
    assert EncodeConfig(causal=True).visual.causal


def test_a_study_of_causal_models_over_features_that_look_ahead_says_so(tmp_path: Path):
    causal = trial(0, 0.5).model_copy(update={"params": {"model.temporal": "causal-tcn"}})
    told = study(tmp_path, trial(1, 0.5), causal, encoders=encoders(causal=False))
    assert "up to 0.7 s ahead" in study_caveat(told)
    assert "ahead" not in study_caveat(study(tmp_path, trial(1, 0.5), encoders=encoders(causal=False)))
    fixed = {"constants": {"model.temporal": "gru"}}
    assert "ahead" in study_caveat(study(tmp_path, trial(1, 0.5), encoders=encoders(causal=False), space=fixed))
