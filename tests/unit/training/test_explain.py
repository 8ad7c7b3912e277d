"""A look inside the fusion: what the model itself says, cut to the frames of one window, and drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from affectgrid.reporting import figures
from affectgrid.training.build import build_model
from affectgrid.training.inference.explain import look_inside
from support.planted import DIMS, planted_prompts, planted_split, small_config, with_streams


def view_of(**model: object):
    config = small_config(**{f"model__{name}": value for name, value in model.items()})
    built = build_model(config, dims=DIMS, prompts=planted_prompts())
    split = planted_split("validation", [30, 12, 24])
    return built, split, look_inside(built, split, "validation-1", config.window)


def test_gates_and_attention_are_the_model_s_own_of_that_track():
    model, split, view = view_of(fusion_depth=2)
    rows = split.track(1)
    np.testing.assert_array_equal(view.time_s, split.time_s[rows])
    streams = {
        name: (torch.as_tensor(stream.feature[rows])[None], torch.as_tensor(stream.present[rows])[None])
        for name, stream in split.streams.items()
    }
    output = model.eval()(streams, torch.ones(1, 12, dtype=torch.bool), return_gates=True, return_attention=True)
    for block in range(2):
        np.testing.assert_allclose(view.shares[block], output.gates[block][0].mean(-1).detach(), atol=1e-6)
        np.testing.assert_allclose(view.shares[block].sum(0), 1, atol=1e-6)
        for pair in (("visual", "audio"), ("audio", "visual")):
            expected = output.attention[block][pair][0].mean(0).detach()
            np.testing.assert_allclose(view.attention[block][pair], expected, atol=1e-6)
            np.testing.assert_allclose(view.attention[block][pair].sum(-1), 1, atol=1e-5)


def test_a_long_track_shows_its_first_window_and_other_tracks_do_not_matter():
    config = small_config()
    model = build_model(config, dims=DIMS, prompts=None)
    split = planted_split("validation", [30, 12, 24])
    view = look_inside(model, split, "validation-0", config.window)
    assert len(view.time_s) == config.window.length == 24
    spoilt = split.streams["visual"].feature.copy()
    spoilt[24:] = 0
    other = look_inside(model, with_streams(split, visual=spoilt), "validation-0", config.window)
    np.testing.assert_array_equal(other.shares, view.shares)


@pytest.mark.parametrize(("fusion", "gates", "maps"), [("both", 2, 2), ("gate", 2, 0), ("attention", 0, 2)])
def test_what_a_block_has_is_drawn(fusion: str, gates: int, maps: int):
    _, _, view = view_of(fusion=fusion, fusion_depth=2)
    assert (len(view.shares), 2 * len(view.attention)) == (gates, 2 * maps)
    figure = figures.fusion(view)
    assert len(figure.axes) == (gates > 0) + maps
    if gates:
        drawn = [line.get_ydata() for line in figure.axes[0].lines[:gates]]
        np.testing.assert_allclose(drawn, [shares[0] for shares in view.shares])
    if maps:
        shown = [axes.images[0].get_array() for axes in figure.axes[-2:]]
        np.testing.assert_allclose(np.stack(shown), list(view.attention[-1].values()), atol=1e-6)
        assert figure.axes[-2].get_title() == "picture attends to sound"


def test_without_fusion_blocks_there_is_nothing_to_see():
    for model in ({"fusion_depth": 0}, {"fusion": "concat"}, {"streams": ("visual",)}):
        assert view_of(**model)[2] is None
