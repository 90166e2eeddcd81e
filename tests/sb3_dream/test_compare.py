"""Comparisons: what is reused, how they go on, and the statistics of the report."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_dream.cli import main
from sb3_dream.compare import LearningCurve
from sb3_dream.evaluation import Games, evaluate
from sb3_dream.report import estimate

SMALL = ["--steps", "200", "--seeds", "2", "--points", "2", "--episodes", "2", "--final-episodes", "3"]
COMPARE = ["compare", "--env", "CartPole-v1", "--algos", "a2c,random", *SMALL, "--output", "out"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def results(algo: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(Path("out/runs").glob(f"*/{algo}/*/result.json"))]


def test_a_comparison_is_made_once_and_then_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(COMPARE) == 0
    for result in results("a2c"):
        assert [point["steps"] for point in result["points"]] == [100, 200]
        assert len(result["final"]["returns"]) == 3
        assert 0 < result["points"][0]["seconds"] < result["points"][1]["seconds"] <= result["seconds"]
    assert len(results("a2c")) == len(results("random")) == 2

    page = Path("out/CartPole-v1_200/report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "python -m sb3_dream compare --env CartPole-v1" in page
    assert "<td>a2c</td><td>2</td>" in page
    assert "http" not in page, "the page needs nothing from elsewhere"
    assert Path("out/CartPole-v1_200/return_by_steps.png").is_file()

    def must_not_train(*arguments: object, **keywords: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(A2C, "learn", must_not_train)
    capsys.readouterr()
    assert main(COMPARE) == 0
    assert capsys.readouterr().out.count(": found") == 4


def test_what_an_algorithm_logs_is_kept_with_its_run() -> None:
    assert main([*COMPARE, "--algos", "dqn"]) == 0
    logs = [EventAccumulator(str(run)).Reload() for run in Path("out/runs").glob("*/dqn/*")]
    assert [len(log.Scalars("rollout/ep_len_mean")) > 0 for log in logs] == [True, True]


def test_measured_games_have_the_scale_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a2c for Acrobot say ``normalize``."""
    envs = []

    def spy(player: Any, env: VecEnv, *arguments: Any) -> Games:
        envs.append(env)
        return evaluate(player, env, *arguments)

    monkeypatch.setattr("sb3_dream.compare.evaluate", spy)
    assert main([*COMPARE, "--env", "Acrobot-v1", "--algos", "a2c", "--seeds", "1"]) == 0
    for env in envs:
        assert isinstance(env, VecNormalize) and not isinstance(env.venv, VecNormalize)
        assert not (env.training or env.norm_reward)
    assert [round(env.obs_rms.count) for env in envs] == [128, 224, 256]  # after 112, 208 and 240 steps, and a reset
    assert results("a2c")[0]["final"]["returns"] == [-500.0] * 3


@pytest.mark.parametrize("options", [[], ["--no-planning"]])
def test_it_measures_with_planning_and_without(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of DREAM for Tetris have planning."""
    planners = []

    def spy(player: Any, env: VecEnv, *arguments: Any) -> Games:
        planners.append(player.policy.planner)
        return Games([1.0], [1])

    monkeypatch.setattr("sb3_dream.compare.evaluate", spy)
    assert main([*COMPARE, "--env", "TetrisDirect-v0", "--algos", "dream", "--seeds", "1", *options]) == 0
    assert [planner is None for planner in planners] == [bool(options)] * 3
    assert ("without planning" in Path("out/TetrisDirect-v0_200/report.html").read_text()) == bool(options)


def test_another_number_of_steps_is_another_run() -> None:
    random = ["compare", "--env", "CartPole-v1", "--algos", "random", "--seeds", "1", "--output", "out"]
    assert main([*random, "--final-episodes", "3"]) == 0
    assert main([*random, "--final-episodes", "4"]) == 0
    assert sorted(len(result["final"]["returns"]) for result in results("random")) == [3, 4]


def test_a_stopped_comparison_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    step = LearningCurve._on_step

    def stop_after_the_first_point(self: LearningCurve) -> bool:
        going_on = step(self)
        if self.result["points"]:
            os.kill(os.getpid(), signal.SIGINT)
        return going_on

    with monkeypatch.context() as patch:
        patch.setattr(LearningCurve, "_on_step", stop_after_the_first_point)
        assert main(COMPARE) == 130
    (stopped,) = results("a2c")
    assert [point["steps"] for point in stopped["points"]] == [100]
    assert "final" not in stopped

    assert main(COMPARE) == 0
    gone_on = results("a2c")[0]
    assert [point["steps"] for point in gone_on["points"]] == [100, 200]
    assert gone_on["points"][0] == stopped["points"][0], "what was measured is not measured again"


def test_one_algorithm_that_fails_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise RuntimeError("no gradient today")

    monkeypatch.setattr(A2C, "learn", fail)
    assert main(COMPARE) == 1
    assert "no gradient today" in capsys.readouterr().out
    page = Path("out/CartPole-v1_200/report.html").read_text()
    assert "no gradient today" in page
    assert "<td>random</td><td>2</td>" in page


def test_tetris_is_compared_by_lines_too() -> None:
    tetris = ["compare", "--algos", "random", "--seeds", "1", "--steps", "10", "--final-episodes", "2"]
    assert main([*tetris, "--output", "out"]) == 0
    assert Path("out/TetrisDirect-v0_10/total_lines_final.png").is_file()


def test_the_interquartile_mean_leaves_out_the_extremes() -> None:
    scores = np.array([[0.0], [1.0], [2.0], [1000.0]])
    value, low, high = estimate(scores)
    assert value == pytest.approx(1.5)
    assert low <= value <= high
    assert high > 2


def test_intervals_are_the_same_each_time_and_leave_the_global_generator_alone() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 3))
    np.random.seed(1)
    first, expected = estimate(scores), np.random.RandomState(1).rand()
    assert np.random.rand() == expected
    assert np.array_equal(estimate(scores), first)


def test_one_run_has_no_interval() -> None:
    value, low, high = estimate(np.array([[3.0, 5.0]]))
    assert value.tolist() == low.tolist() == high.tolist() == [3.0, 5.0]
