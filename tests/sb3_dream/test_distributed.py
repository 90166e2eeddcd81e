"""Training on several ranks: always one model, whatever each of them sees, and whoever is killed."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch as th
import yaml
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

import sb3_dream.dream
from sb3_dream.checkpoints import CheckpointCallback
from sb3_dream.dream import DREAM
from sb3_dream.nn.collectives import Agreement, LostRankError, average_buffers, gathered, rank, world_size
from sb3_dream.nn.moments import RunningMoments
from sb3_dream.nn.optimization import FiniteCheck, descend, gradients
from tests.sb3_dream.ranks import command_on_ranks, on_ranks
from tests.sb3_dream.resume_cases import bare
from tests.sb3_dream.tiny import SavedWalk, assert_same, parameters, tiny, vectorized

STEPS = 64  # of all ranks together


def walk(n_envs: int = 2, **kwargs: Any) -> DREAM:
    return tiny(vectorized(partial(SavedWalk, slip=0.3), n_envs), **kwargs)


def rewards(model: DREAM) -> list[float]:
    return model.replay_buffer._rows.reward.data[: model.replay_buffer.n_rows].tolist()


# ------------------------------------------------------------------ the pieces


def inputs() -> th.Tensor:
    return th.arange(24.0).reshape(8, 3) / 10


def step(rows: th.Tensor) -> th.Tensor:
    """The weights after a step of an optimiser on a batch."""
    th.manual_seed(0)
    layer = nn.Linear(3, 2)
    optimizer = th.optim.Adam(layer.parameters(), 0.1)
    descend(
        optimizer, gradients(optimizer, {"loss": layer(rows).square().mean()}), 0.5, FiniteCheck(late=False), "the test"
    )
    return layer.weight.detach()


def moments(rows: th.Tensor, has_more: bool) -> dict[str, th.Tensor]:
    """After three updates, to one of which only those that have more add something."""
    module = nn.ModuleDict({"all": RunningMoments(3), "some": RunningMoments(3)})
    for number in range(3):
        module["all"].update(rows + number, th.ones(len(rows)))
        if has_more and number > 0:
            module["some"].update(inputs() + number, th.ones(8))
        average_buffers(module)
    return module.state_dict()


def pieces_on_a_rank() -> dict[str, Any]:
    half, agreement = inputs()[rank() :: 2], Agreement()
    agreed = [agreement(rank() == 1 and call == 3) for call in range(24)]
    return {"weights": step(half), "moments": moments(half, rank() == 1), "agreed": agreed}


def test_ranks_make_of_their_batches_what_one_process_makes_of_all() -> None:
    first, second = on_ranks(2, pieces_on_a_rank)
    assert_same(first["moments"], second["moments"])
    th.testing.assert_close(first["moments"], moments(inputs(), True))
    assert th.equal(first["weights"], second["weights"])
    th.testing.assert_close(first["weights"], step(inputs()))
    assert first["agreed"] == second["agreed"], "at the same call"
    assert sum(first["agreed"]) == 1
    assert [Agreement()(yes) for yes in (False, True, False)] == [False, True, False], "alone, at once"


# ---------------------------------------------------------------- the algorithm


def compare_after_every_update(arguments: dict[str, Any]) -> dict[str, Any]:
    model = tiny(VecNormalize(bare()), batch_size=3, imagination_starts=9, n_minibatches=4, **arguments)
    updates, average = 0, sb3_dream.dream.average_buffers

    def compared(policy: nn.Module) -> None:
        nonlocal updates
        average(policy)
        updates += 1
        mine, *others = gathered((parameters(model), model._n_updates, model.num_timesteps, observed_by_all()))
        for other in others:
            assert_same(mine[0], other[0])
            assert mine[1:] == other[1:]

    def observed_by_all() -> tuple[Any, ...]:
        normalizer = model.get_vec_normalize_env()
        assert normalizer is not None
        return tuple((m.count, m.mean.tolist(), m.var.tolist()) for m in (normalizer.obs_rms, normalizer.ret_rms))

    sb3_dream.dream.average_buffers = compared  # type: ignore[assignment]
    model.learn(STEPS)
    count = model.get_vec_normalize_env().obs_rms.count  # type: ignore[union-attr]
    return {"updates": updates, "steps": model.num_timesteps, "rewards": rewards(model), "seen": count}


@pytest.mark.parametrize("overlap", [False, True])
def test_parameters_and_normalisers_are_the_same_on_all_ranks_after_every_update(overlap: bool) -> None:
    count = 3
    arguments = {"n_epochs": 2, "model_warmup": 1, "overlap_updates": overlap}
    results = on_ranks(count, compare_after_every_update, arguments)
    assert len({tuple(result["rewards"]) for result in results}) == count, "each rank plays games of its own"
    for result in results:
        assert result["updates"] > 3
        assert STEPS <= result["steps"] < STEPS + 2 * count, "steps of all ranks"
        assert result["seen"] > STEPS * 0.8, "observations of all ranks"


def test_alone_nothing_changes() -> None:
    assert (world_size(), rank()) == (1, 0)
    model = walk()
    model.learn(STEPS)
    assert model.num_timesteps == STEPS
    (result,) = on_ranks(1, learn, STEPS)
    assert_same(result, parameters(model))


def learn(steps: int) -> dict[str, th.Tensor]:
    model = walk()
    model.learn(steps)
    return parameters(model)


def learn_with_wrong_settings() -> list[str]:
    messages = []
    for model in (walk(n_envs=1 + rank()), walk(n_envs=1, train_freq=(1, "episode"))):
        with pytest.raises(ValueError) as error:
            model.learn(STEPS)
        messages.append(str(error.value))
    return messages


def test_settings_that_would_make_ranks_wait_for_ever_are_refused() -> None:
    for uneven, by_episodes in on_ranks(2, learn_with_wrong_settings):
        assert uneven == "n_envs is 1 on rank 0 and 2 on rank 1"
        assert "cannot count episodes" in by_episodes


class StopRank(BaseCallback):
    """Says stop on one rank, or kills it."""

    def __init__(self, stopped: int, kill: bool = False) -> None:
        super().__init__()
        self.stopped, self.kill = stopped, kill

    def _on_step(self) -> bool:
        now = rank() == self.stopped and self.num_timesteps >= STEPS // 2
        if now and self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return not now


def stop_rank(stopped: int) -> tuple[int, int]:
    model = walk()
    model.learn(10 * STEPS, callback=StopRank(stopped))
    return model.num_timesteps, model._n_updates


def test_a_callback_that_stops_one_rank_stops_all_at_the_same_step() -> None:
    first, second = on_ranks(2, stop_rank, 1)
    assert first == second
    assert STEPS // 2 <= first[0] < 2 * STEPS


# ------------------------------------------------------------------ checkpoints


def learn_on(folder: Path, steps: int) -> dict[str, th.Tensor]:
    """Begin, or go on, up to so many steps."""
    model = walk() if not folder.is_dir() else DREAM.load_checkpoint(folder, walk().env, device="cpu")
    begin = parameters(model), model.num_timesteps, model._n_updates
    model.learn(
        steps - model.num_timesteps, CheckpointCallback(folder, 16), reset_num_timesteps=not model.num_timesteps
    )
    return {"begin": begin, "end": parameters(model), "rewards": rewards(model), "steps": model.num_timesteps}


def test_a_run_resumed_on_as_many_ranks_is_the_run_that_was_not_stopped(tmp_path: Path) -> None:
    whole = on_ranks(2, learn_on, tmp_path / "whole", 2 * STEPS)
    on_ranks(2, learn_on, tmp_path / "parts", STEPS)
    parts = on_ranks(2, learn_on, tmp_path / "parts", 2 * STEPS)
    for one, other in zip(whole, parts, strict=True):
        assert_same(one["end"], other["end"])
        assert one["rewards"] == other["rewards"]


def test_one_checkpoint_resumes_on_any_number_of_ranks(tmp_path: Path) -> None:
    alone = learn_on(tmp_path / "run", STEPS)
    together = on_ranks(2, learn_on, tmp_path / "run", 2 * STEPS)
    for result in together:
        assert_same(result["begin"][0], alone["end"])
        assert_same(result["end"], together[0]["end"])
        assert result["begin"][1:] == (STEPS, together[0]["begin"][2])
        assert result["steps"] == 2 * STEPS
    assert together[0]["rewards"] != together[1]["rewards"], "each rank plays games of its own"
    alone = learn_on(tmp_path / "run", 3 * STEPS)
    assert_same(alone["begin"][0], together[0]["end"])
    assert (alone["begin"][1], alone["steps"]) == (2 * STEPS, 3 * STEPS)


def learn_until_killed(killed: int, folder: Path) -> str:
    model = walk()
    with pytest.raises(LostRankError) as error:
        model.learn(10 * STEPS, callback=StopRank(killed, kill=True))
    model.save_checkpoint(folder)
    return str(error.value)


@pytest.mark.parametrize("killed", [0, 1])
def test_whichever_rank_is_killed_the_others_keep_what_was_learned(killed: int, tmp_path: Path) -> None:
    results = on_ranks(2, learn_until_killed, killed, tmp_path / "run")
    assert results[killed] is None
    assert "has lost another rank" in results[1 - killed]
    resumed = learn_on(tmp_path / "run", 2 * STEPS)
    assert resumed["begin"][1] > STEPS // 2 - 4
    assert resumed["steps"] == 2 * STEPS


# -------------------------------------------------------------- the command line


def test_the_command_line_ends_with_a_checkpoint_and_resumes(tmp_path: Path) -> None:
    hyperparameters = {
        **{"policy": "MlpPolicy", "n_timesteps": 3 * STEPS, "learning_starts": 16, "model_warmup": 2, "n_envs": 1},
        **{"batch_size": 2, "sequence_length": 4, "train_ratio": 2.0, "imagination_starts": 4},
        "policy_kwargs": "dict(world_model_kwargs=dict(width=8, depth=1, memory=4))",
        "callback": [{"tests.sb3_dream.test_distributed.StopRank": {"stopped": 1, "kill": True}}],
    }
    conf, logs = tmp_path / "conf.yml", tmp_path / "logs"
    conf.write_text(yaml.safe_dump({"CartPole-v1": hyperparameters}))
    arguments = ["train", "--env", "CartPole-v1", "-conf", str(conf), "-f", str(logs), "--eval-freq", "-1"]
    ended, killed = command_on_ranks(2, arguments)
    assert killed is None
    assert ended is not None and ended[0] == 1
    assert ended[1].startswith("sb3-dream: error: training stopped") and "has lost another rank" in ended[1]
    run = logs / "dream" / "CartPole-v1_1"
    assert list(run.glob("checkpoints/checkpoint-*"))
    assert len(list(run.glob("*.monitor.csv"))) == 1, "rank 0 alone logs"

    del hyperparameters["callback"]
    conf.write_text(yaml.safe_dump({"CartPole-v1": hyperparameters}))
    assert command_on_ranks(2, ["train", "--resume", str(run)]) == [(0, ""), (0, "")]
    assert DREAM.load(run / "CartPole-v1.zip").num_timesteps >= 3 * STEPS
    assert [folder.name for folder in (logs / "dream").iterdir()] == ["CartPole-v1_1"], "one run"


def test_the_command_line_says_what_ranks_cannot_do(tmp_path: Path) -> None:
    arguments = ["train", "--env", "CartPole-v1", "-f", str(tmp_path), "--algo", "a2c"]
    for result in command_on_ranks(2, arguments):
        assert result is not None and result[0] == 2 and "a2c cannot train" in result[1]
    assert not list(tmp_path.glob("*/*"))
