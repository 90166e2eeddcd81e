"""Stopping, failing, resuming and searching: nothing that was learned is lost, and nothing is hidden."""

import json
import os
import signal
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_dream.checkpoints import checkpoints
from sb3_dream.cli import main
from sb3_dream.dream import DREAM
from sb3_dream.experiment import Experiment
from tests.sb3_dream.stopping import StopAt

RUN = Path("logs/dqn/CartPole-v1_1")
CONFIG = """
CartPole-v1:
  n_timesteps: 300
  policy: MlpPolicy
  learning_starts: 50
  train_freq: 1
  learning_rate: lin_1e-3
  policy_kwargs: "dict(net_arch=[8])"
  callback:
    - tests.sb3_dream.stopping.{callback}:
        step: 170
"""

OFF_POLICY = "  learning_starts: 50\n  train_freq: 1\n"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(callback: str, algo: str = "dqn") -> int:
    Path("config.yml").write_text(CONFIG.format(callback=callback))
    arguments = ["--algo", algo, "--env", "CartPole-v1", "-conf", "config.yml", "--seed", "1", "--verbose", "0"]
    return main(["train", *arguments, "--eval-freq", "100", "--eval-episodes", "2"])


def steps_in(model: Path) -> int:
    with ZipFile(model) as archive:
        return json.loads(archive.read("data"))["num_timesteps"]


def test_a_stopped_run_goes_on_in_its_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("StopAt") == 130
    assert steps_in(RUN / "CartPole-v1.zip") == 170
    assert (RUN / "replay_buffer.pkl").is_file()
    command = f"train --resume {RUN}"
    assert command in capsys.readouterr().out
    episodes = len((RUN / "0.monitor.csv").read_text().splitlines())

    monkeypatch.setattr(StopAt, "enabled", False)
    seen: list[int] = []
    load_buffer = DQN.load_replay_buffer

    def watched(self: DQN, *arguments: object, **keywords: object) -> None:
        load_buffer(self, *arguments, **keywords)
        seen.append(self.replay_buffer.size())

    monkeypatch.setattr(DQN, "load_replay_buffer", watched)
    assert main(command.split()) == 0
    assert seen == [170], "the last step before the stop is in the buffer"
    assert steps_in(RUN / "CartPole-v1.zip") == 300
    assert np.load(RUN / "evaluations.npz")["timesteps"].tolist() == [100, 270]
    assert len((RUN / "0.monitor.csv").read_text().splitlines()) > episodes
    assert not (RUN / "replay_buffer.pkl").exists(), "the buffer of the stop is outdated"
    assert [path.name for path in RUN.parent.iterdir()] == [RUN.name]


def test_resuming_keeps_the_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train("StopAt") == 130
    monkeypatch.setattr(StopAt, "enabled", False)
    assert main(["train", "--resume", str(RUN)]) == 0
    model = DQN.load(RUN / "CartPole-v1.zip")
    assert model._total_timesteps == 300
    assert model._current_progress_remaining == pytest.approx(0.0, abs=0.02)


def test_a_failure_in_training_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("FailAt") == 1
    captured = capsys.readouterr()
    assert steps_in(RUN / "CartPole-v1.zip") == 170
    assert (RUN / "replay_buffer.pkl").is_file()
    assert "No space left on device" in captured.err
    assert f"--resume {RUN}" in captured.out


def test_a_full_disk_keeps_the_last_model_and_saves_the_new_one_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("StopAt") == 130
    before = (RUN / "CartPole-v1.zip").read_bytes()
    monkeypatch.setattr(StopAt, "enabled", False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    save = BaseAlgorithm.save

    def full(self: BaseAlgorithm, path: Path, *arguments: object, **keywords: object) -> None:
        if RUN.name in str(path) and "best_model" not in str(path):
            Path(path).write_bytes(b"half a model")
            raise OSError(28, "No space left on device")
        save(self, path, *arguments, **keywords)

    monkeypatch.setattr(BaseAlgorithm, "save", full)
    assert main(["train", "--resume", str(RUN)]) == 1
    assert (RUN / "CartPole-v1.zip").read_bytes() == before
    error = capsys.readouterr().err
    (rescued,) = tmp_path.glob("dqn-CartPole-v1-*/CartPole-v1.zip")
    assert str(rescued.parent) in error
    assert steps_in(rescued) == 300
    assert not list(RUN.glob(".saving-*"))


def test_an_algorithm_without_a_buffer_is_stopped_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.yml").write_text(CONFIG.format(callback="StopAt").replace(OFF_POLICY, ""))
    arguments = ["--algo", "a2c", "--env", "CartPole-v1", "-conf", "config.yml", "--eval-freq", "-1", "--verbose", "0"]
    assert main(["train", *arguments, "-params", "normalize:True"]) == 130
    run = Path("logs/a2c/CartPole-v1_1")
    assert (run / "CartPole-v1" / "vecnormalize.pkl").is_file()
    monkeypatch.setattr(StopAt, "enabled", False)
    assert main(["train", "--resume", str(run)]) == 0
    assert A2C.load(run / "CartPole-v1.zip").num_timesteps == 300


DREAM_RUN = Path("logs/dream/CartPole-v1_1")
DREAM_CONFIG = """
CartPole-v1:
  n_timesteps: 300
  learning_starts: 50
  train_ratio: 2
  batch_size: 2
  sequence_length: 4
  model_warmup: 0
  imagination_starts: 4
  imagination_horizon: 2
  learning_rate: lin_1e-3
  actor_learning_rate: lin_2e-3
  critic_learning_rate: 0.003
  clip_range: lin_0.2
  policy: MlpPolicy
  policy_kwargs: "dict(world_model_kwargs=dict(width=8, depth=1, memory=4), actor_critic_kwargs=dict(net_arch=[8]))"
  callback:
    - tests.sb3_dream.stopping.StopAt:
        step: 170
"""


def train_dream(*arguments: str) -> int:
    Path("dream.yml").write_text(DREAM_CONFIG)
    given = ["--algo", "dream", "--env", "CartPole-v1", "-conf", "dream.yml", "--seed", "1", "--verbose", "0"]
    return main(["train", *given, "--eval-freq", "100", "--eval-episodes", "1", *arguments])


def test_the_learning_rate_of_each_part_may_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StopAt, "enabled", False)
    assert train_dream() == 0
    model = DREAM.load(DREAM_RUN / "CartPole-v1.zip", device="cpu")
    rates = model.learning_rate, model.actor_learning_rate, model.critic_learning_rate
    assert [(rate(1.0), rate(0.5)) for rate in rates] == [(1e-3, 5e-4), (2e-3, 1e-3), (3e-3, 3e-3)]  # type: ignore[operator, misc]


def test_novelty_falls_or_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StopAt, "enabled", False)
    for number, (given, novelty) in enumerate((("0", False), ("lin_0.1", True)), 1):
        assert train_dream("-params", f"novelty_coef:{given}") == 0
        model = DREAM.load(f"logs/dream/CartPole-v1_{number}/CartPole-v1.zip", device="cpu")
        assert (model.policy.novelty is not None) == novelty
    assert model.novelty_coef(0.5) == 0.05  # type: ignore[operator]


def test_a_stopped_run_of_dream_goes_on_from_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train_dream() == 130
    (checkpoint,) = checkpoints(DREAM_RUN / "checkpoints")
    assert steps_in(checkpoint / "model.zip") == steps_in(DREAM_RUN / "CartPole-v1.zip") == 170
    monkeypatch.setattr(StopAt, "enabled", False)
    rows: list[int] = []
    learn = DREAM.learn

    def watched(self: DREAM, *arguments: object, **keywords: object) -> DREAM:
        rows.append(self.replay_buffer.n_rows)
        return learn(self, *arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(DREAM, "learn", watched)
    assert main(["train", "--resume", str(DREAM_RUN)]) == 0
    assert rows[0] >= 170, "nothing that was played is forgotten"
    assert steps_in(DREAM_RUN / "CartPole-v1.zip") == 300
    assert not list(DREAM_RUN.glob("*checkpoints*")), "of a finished run the model is enough"
    assert main(["enjoy", "--algo", "dream", "--env", "CartPole-v1", "--no-render", "-n", "5"]) == 0
    custom = ["--custom-objects", "--load-best"]
    assert main(["enjoy", "--algo", "dream", "--env", "CartPole-v1", "--no-render", "-n", "5", *custom]) == 0


def test_a_killed_run_of_dream_goes_on_from_its_last_checkpoint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is saved at the end of a process that is killed."""
    with monkeypatch.context() as killed:
        killed.setattr(Experiment, "save", lambda *arguments, **keywords: None)
        assert train_dream("--save-freq", "40") == 130
    assert not (DREAM_RUN / "CartPole-v1.zip").exists()
    assert steps_in(checkpoints(DREAM_RUN / "checkpoints")[-1] / "model.zip") == 160
    monkeypatch.setattr(StopAt, "enabled", False)
    assert main(["train", "--resume", str(DREAM_RUN)]) == 0
    assert "Going on after 160 of 300 steps" in capsys.readouterr().out
    assert steps_in(DREAM_RUN / "CartPole-v1.zip") == 300
    assert np.load(DREAM_RUN / "evaluations.npz")["timesteps"].tolist() == [100, 260]


def tune(*arguments: str) -> int:
    Path("tune.yml").write_text("CartPole-v1: {n_timesteps: 40, policy: MlpPolicy}")
    small = ["--eval-episodes", "1", "--n-evaluations", "1", "--n-startup-trials", "1", "-n", "40"]
    return main(["tune", "--algo", "dqn", "--env", "CartPole-v1", "-conf", "tune.yml", *small, *arguments])


def test_a_search_goes_on_and_its_trials_can_be_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("--n-trials", "1") == 0
    assert tune("--n-trials", "1") == 0
    assert "Number of finished trials:  2" in capsys.readouterr().out
    study = ["--storage", "logs/studies/dqn_CartPole-v1.log", "--study-name", "dqn_CartPole-v1"]
    train = ["train", "--algo", "dqn", "--env", "CartPole-v1", "-n", "20", "--eval-freq", "-1"]
    for trial in ("0", "1"):
        assert main([*train, *study, "--trial-id", trial]) == 0
    rates = {DQN.load(path).lr_schedule(1.0) for path in Path("logs/dqn").glob("*/CartPole-v1.zip")}
    assert len(rates) == 2, "each trial brought its own hyperparameters"


def test_a_search_that_is_stopped_in_its_first_trial_tells_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object, **keywords: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(DQN, "learn", interrupt)
    assert tune("--n-trials", "2") == 130
    captured = capsys.readouterr()
    assert "the same command goes on with it" in captured.out
    assert "error" not in captured.err


def test_a_trial_that_raised_an_error_is_told_from_a_pruned_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise ValueError("there is a bug here")

    monkeypatch.setattr(DQN, "learn", fail)
    assert tune("--n-trials", "2") == 1
    captured = capsys.readouterr()
    assert "2 x ValueError: there is a bug here" in captured.err
    assert captured.out.count("FAILED") == 2
