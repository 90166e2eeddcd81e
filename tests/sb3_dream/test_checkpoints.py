"""Checkpoints: complete or not there, exact, few, and cheap."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback

from sb3_dream.checkpoints import CheckpointCallback, checkpoints
from sb3_dream.dream import DREAM
from tests.sb3_dream.resume_cases import CASES, FIRST, SECOND, finish
from tests.sb3_dream.tiny import Walk, assert_same, parameters, vectorized

CASE = CASES["walk"]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def full_disk(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_killed_runs_end_as_those_that_nobody_killed(tmp_path: Path) -> None:
    """With SIGKILL, at random moments and in the middle of saving. A longer run: see ``killed_runs``."""
    program = [sys.executable, "-W", "ignore", "-m", "tests.sb3_dream.killed_runs", str(tmp_path), "4"]
    done = subprocess.run([*program, "normalised"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # more than one where a slow machine lets a life end before it is killed
    assert re.fullmatch(r"4 killed, [2-4] of them while saving; [1-9]\d* ends, all the same\n", done.stdout)


def test_a_run_goes_on_from_its_newest_checkpoint_and_from_an_older_one(tmp_path: Path) -> None:
    whole = finish(CASE.start().learn(FIRST + SECOND))
    CASE.start().learn(FIRST, callback=CheckpointCallback(tmp_path / "run", save_freq=10))
    found = checkpoints(tmp_path / "run")
    assert [json.loads((path / "checkpoint.json").read_text())["steps"] for path in found] == [20, 30, 34]
    for place, left in ((tmp_path / "run", SECOND), (found[0], FIRST + SECOND - 20)):
        model = DREAM.load_checkpoint(place, CASE.make(), device="cpu")
        model.learn(left, reset_num_timesteps=False)
        assert_same(finish(model), whole)
    model.save_checkpoint(tmp_path / "run")  # after the newer ones, from which it did not come
    assert_same(
        finish(
            DREAM.load_checkpoint(str(tmp_path / "run"), CASE.make(), device="cpu").learn(10, reset_num_timesteps=False)
        ),
        finish(model.learn(10, reset_num_timesteps=False)),
    )


def test_only_what_is_needed_stays(tmp_path: Path) -> None:
    model = CASE.start()
    for _ in range(40):
        model.learn(10, reset_num_timesteps=False)
        model.save_checkpoint(tmp_path, keep=2)
    found = checkpoints(tmp_path)
    assert [path.name for path in found] == ["checkpoint-000039", "checkpoint-000040"]
    needed = {name for path in found for name in json.loads((path / "checkpoint.json").read_text())["replay"]}
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in found} | needed
    assert_same(parameters(DREAM.load_checkpoint(tmp_path, device="cpu")), parameters(model))
    with pytest.raises(ValueError, match="keep must be at least 1"):
        model.save_checkpoint(tmp_path, keep=0)


def test_a_checkpoint_in_another_folder_stands_alone(tmp_path: Path) -> None:
    model = CASE.start().learn(20)
    model.save_checkpoint(tmp_path / "one")
    model.learn(8, reset_num_timesteps=False)
    model.save_checkpoint(tmp_path / "two")
    shutil.rmtree(tmp_path / "one")
    loaded = DREAM.load_checkpoint(tmp_path / "two", CASE.make(), device="cpu")
    assert_same(finish(loaded.learn(9, reset_num_timesteps=False)), finish(model.learn(9, reset_num_timesteps=False)))


def test_in_another_number_of_environments(tmp_path: Path) -> None:
    CASE.start().learn(20).save_checkpoint(tmp_path)
    model = DREAM.load_checkpoint(tmp_path, vectorized(Walk, 3), device="cpu").learn(12, reset_num_timesteps=False)
    model.save_checkpoint(tmp_path)
    again = DREAM.load_checkpoint(tmp_path, vectorized(Walk, 3), device="cpu")
    assert again.n_envs == again.replay_buffer.n_envs == 3
    assert again.replay_buffer.n_rows == model.replay_buffer.n_rows


def test_saving_changes_nothing(tmp_path: Path) -> None:
    saves = CheckpointCallback(tmp_path, save_freq=1)
    assert_same(finish(CASE.start().learn(FIRST, callback=saves)), finish(CASE.start().learn(FIRST)))


@pytest.mark.parametrize("name", ["th.save", "os.fsync", "os.replace", "os.rename", "np.lib.format.write_array"])
def test_a_full_disk_leaves_the_last_checkpoint(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it strikes, and saving works again once there is space."""
    model = CASE.start().learn(20)
    model.save_checkpoint(tmp_path)
    before = files(tmp_path)
    model.learn(6, reset_num_timesteps=False)
    module: Any = {"th": th, "os": os, "np": np.lib.format}[name.split(".")[0]]
    with monkeypatch.context() as patch:
        patch.setattr(module, name.rpartition(".")[2], full_disk)
        with pytest.raises(OSError, match="No space left on device"):
            model.save_checkpoint(tmp_path, keep=1)
    after = files(tmp_path)
    assert before.items() <= after.items()
    assert not [path for path in after if ".writing-" in path]
    assert DREAM.load_checkpoint(tmp_path, device="cpu").num_timesteps == 20
    model.save_checkpoint(tmp_path, keep=1)
    loaded = DREAM.load_checkpoint(tmp_path, CASE.make(), device="cpu")
    assert_same(finish(loaded.learn(9, reset_num_timesteps=False)), finish(model.learn(9, reset_num_timesteps=False)))


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        CASE.start().learn(10).save_checkpoint(tmp_path / "file" / "folder")
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint in .*nowhere"):
        DREAM.load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["checkpoint.json", "model.zip", "rows"])
def test_damaged_checkpoints_are_named(damage: str, tmp_path: Path) -> None:
    checkpoint = CASE.start().learn(20).save_checkpoint(tmp_path)
    path = tmp_path / "rows-000001.zip" if damage == "rows" else checkpoint / damage
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=f"{path.name}.* damaged"):
        DREAM.load_checkpoint(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        DREAM.load_checkpoint(tmp_path)


def test_a_checkpoint_can_name_no_foreign_file(tmp_path: Path) -> None:
    checkpoint = CASE.start().learn(20).save_checkpoint(tmp_path)
    (checkpoint / "checkpoint.json").write_text(json.dumps({"replay": ["../rows-000001.zip"]}))
    with pytest.raises(ValueError, match="names no files of rows"):
        DREAM.load_checkpoint(tmp_path)


def test_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("sb3_dream.checkpoints.time.monotonic", lambda: next(clock))
    CASE.start().learn(40, callback=CheckpointCallback(tmp_path, save_freq=None, seconds=7, keep=None))
    steps = [json.loads((path / "checkpoint.json").read_text())["steps"] for path in checkpoints(tmp_path)]
    assert len(steps) > 2 and np.ptp(np.diff(steps)[:-1]) == 0


def test_wrong_arguments(tmp_path: Path) -> None:
    for name, value in (("save_freq", 0), ("seconds", -1.0), ("keep", 0)):
        with pytest.raises(ValueError, match=f"{name} must be above 0"):
            CheckpointCallback(tmp_path, **{name: value})
    with pytest.raises(TypeError, match="saves a DREAM, not a A2C"):
        A2C("MlpPolicy", "CartPole-v1").learn(5, callback=CheckpointCallback(tmp_path))


def test_a_stop_in_the_middle_of_a_step_goes_on_correctly(tmp_path: Path) -> None:
    class Fails(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 24:
                raise ZeroDivisionError
            return True

    model = CASE.start()
    with pytest.raises(ZeroDivisionError):
        model.learn(40, callback=Fails())
    model.save_checkpoint(tmp_path)
    again = DREAM.load_checkpoint(tmp_path, CASE.make(), device="cpu").learn(16, reset_num_timesteps=False)
    assert again.num_timesteps == 40
