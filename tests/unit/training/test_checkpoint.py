"""Checkpoints: whole, or not there."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from affectgrid.errors import TrainingError
from affectgrid.training.checkpoint import (
    CheckpointFolder,
    TrainingState,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)


def state(epoch: int = 1) -> TrainingState:
    parameter = torch.nn.Parameter(torch.full((2, 3), float(epoch)))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    weights = {"weight": parameter.detach().clone()}
    history = [{"val/p": 0.1 * e, "epoch": e} for e in range(1, epoch + 1)]
    return TrainingState("run", epoch, weights, {"weight": torch.zeros(2, 3)}, optimizer.state_dict(), history)


def test_what_is_saved_comes_back(tmp_path):
    saved = state(3)
    loaded = load_checkpoint(save_checkpoint(saved, tmp_path / "checkpoint"))
    assert (loaded.identity, loaded.epoch, loaded.history) == ("run", 3, saved.history)
    assert torch.equal(loaded.weights["weight"], saved.weights["weight"])
    assert torch.equal(loaded.best_weights["weight"], torch.zeros(2, 3))
    assert torch.equal(loaded.optimizer["state"][0]["exp_avg"], saved.optimizer["state"][0]["exp_avg"])
    assert loaded.optimizer["param_groups"] == saved.optimizer["param_groups"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_no_file_is_a_pickle_that_can_run_code(tmp_path):
    folder = save_checkpoint(state(), tmp_path / "c")
    torch.load(folder / "optimizer.pt", weights_only=True)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json", ".pt"}


@pytest.mark.parametrize("name", ["weights.safetensors", "best.safetensors", "optimizer.pt", "checkpoint.json"])
@pytest.mark.parametrize("fault", ["cut", "flipped", "gone"])
def test_a_torn_file_is_found(tmp_path, name, fault):
    path = save_checkpoint(state(), tmp_path / "c") / name
    data = path.read_bytes()
    if fault == "gone":
        path.unlink()
    elif fault == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        middle = data.index(b"{") if name.endswith("json") else len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :])
    with pytest.raises(TrainingError, match=r"CKPT-TORN .*/c: .*use an earlier one"):
        load_checkpoint(tmp_path / "c")


def test_a_torn_newest_checkpoint_gives_way_to_the_one_before_with_a_warning(tmp_path, caplog):
    folder = CheckpointFolder(tmp_path)
    for epoch in (1, 2, 3):
        folder.keep({"epoch": epoch}, lambda path, epoch=epoch: save_checkpoint(state(epoch), path))
    assert [path.name for path in folder.newest_first()] == ["epoch-00003", "epoch-00002"]
    weights = tmp_path / "epoch-00003" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        loaded = folder.load()
    assert loaded is not None
    assert loaded.epoch == 2
    assert "CKPT-TORN" in caplog.text
    assert "epoch-00003" in caplog.text


def test_an_empty_folder_starts_afresh_and_one_with_nothing_whole_does_not(tmp_path):
    assert CheckpointFolder(tmp_path / "none").load() is None
    torn = tmp_path / "epoch-00001"
    torn.mkdir()
    with pytest.raises(TrainingError, match="CKPT-TORN"):
        load_newest([torn])


def test_saving_again_replaces_and_a_failed_save_leaves_what_was_there(tmp_path):
    folder = tmp_path / "c"
    save_checkpoint(state(1), folder)
    save_checkpoint(state(2), folder)
    broken = dataclasses.replace(state(3), optimizer={"state": _Unwritable()})
    with pytest.raises(Exception, match="no"):
        save_checkpoint(broken, folder)
    assert load_checkpoint(folder).epoch == 2
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


class _Unwritable:
    def __reduce__(self):
        raise RuntimeError("no")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"CKPT-WRITE .*file/c"):
        save_checkpoint(state(), tmp_path / "file" / "c")
