"""Dreams that go on from update to update."""

import numpy as np
import pytest
import torch as th

from sb3_dream.dreams import Dreams
from sb3_dream.imagination import Rollout
from sb3_dream.world_models.base import State
from tests.sb3_dream.tiny import Walk, parameters, tiny

HORIZON = 5


def states(first: int, count: int) -> State:
    return State(th.arange(first, first + count).float()[:, None], th.zeros(count, 2))


def rollout(start: State, ends: list[bool]) -> Rollout:
    """Each dream's memory grows by 100; those of ``ends`` end in the last step."""
    count = len(ends)
    continues = th.ones(HORIZON, count)
    continues[-1] = 1 - th.tensor(ends).float()
    nothing = th.zeros(HORIZON, count)
    last = State(start.memory + 100, start.percept)
    return Rollout(th.zeros(HORIZON + 1, count, 1), nothing[..., None], nothing, None, nothing, continues, last)


def test_dreams_that_go_on_come_first_and_the_others_are_replaced() -> None:
    dreams = Dreams(3)
    assert dreams.missing == 3
    start = dreams.join([states(0, 1), states(1, 2)])
    assert start.memory.flatten().tolist() == [0, 1, 2]
    dreams.go_on(rollout(start, [False, True, False]), 20)
    assert dreams.missing == 1
    assert dreams.join([states(7, 1)]).memory.flatten().tolist() == [100, 102, 7]


def test_dreams_are_given_up_before_they_grow_too_long() -> None:
    dreams, length = Dreams(2), 2 * HORIZON + 1
    dreams.go_on(rollout(dreams.join([states(0, 2)]), [False, False]), length)
    assert dreams.missing == 0
    dreams.go_on(rollout(dreams.join([states(9, 0)]), [False, False]), length)
    assert dreams.missing == 2  # a third rollout would make 15 steps, and 11 are allowed


@pytest.mark.parametrize("length", [1, HORIZON])
def test_rollouts_begin_anew_where_a_dream_is_no_longer_than_one(length: int) -> None:
    dreams = Dreams(2)
    dreams.go_on(rollout(dreams.join([states(0, 2)]), [False, False]), length)
    assert dreams.missing == 2
    assert dreams.join([states(5, 2)]).memory.flatten().tolist() == [5, 6]


@pytest.mark.parametrize(("end", "lengths"), [(2, [6, 4, 2]), (10, [6, 8, 10]), (None, [6, 6, 6])])
def test_length_changes_as_the_discount_rises(
    end: int | None, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(Walk(), dream_length=6, dream_length_end=end, gamma_rise=(50, 150)).learn(20)
    used: list[float] = []
    monkeypatch.setattr(model._dreams, "go_on", lambda rollout, length: used.append(length))
    for steps, length in zip((50, 100, 150), lengths, strict=True):
        model.num_timesteps = steps
        used.clear()
        model.train(8, model.batch_size)
        assert set(used) == {length}


def test_state_is_complete() -> None:
    dreams, copy = Dreams(3), Dreams(3)
    copy.set_state(dreams.get_state(), th.device("cpu"))
    assert copy.missing == 3 and copy.state is None
    dreams.go_on(rollout(dreams.join([states(0, 3)]), [False, True, False]), 50)
    copy.set_state(dreams.get_state(), th.device("cpu"))
    assert copy.missing == 1
    assert np.array_equal(copy.age, dreams.age)
    assert copy.state is not None and dreams.state is not None
    assert all(th.equal(a, b) for a, b in zip(copy.state, dreams.state, strict=True))


def test_no_more_dreams_go_on_than_there_are_to_be() -> None:
    dreams, fewer = Dreams(3), Dreams(2)
    dreams.go_on(rollout(dreams.join([states(0, 3)]), [False, False, False]), 50)
    fewer.set_state(dreams.get_state(), th.device("cpu"))
    assert fewer.missing == 0
    assert fewer.join([states(9, 0)]).memory.flatten().tolist() == [100, 101]


def test_episodes_that_outlast_the_replay_have_no_beginnings_to_dream_from() -> None:
    endless = Walk(cells=50, start=25, limit=1_000)
    model = tiny(endless, buffer_size=20, initial_fraction=1.0).learn(80)
    assert model.replay_buffer.sample_firsts(5, None).valid.shape[0] == 0
    assert model.num_timesteps == 80 and model._n_updates > 10


def test_all_dreams_may_begin_before_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(Walk(), initial_fraction=0.0, before_reward_fraction=1.0, dream_length=1).learn(40)
    starts: list[State] = []
    join = model._dreams.join
    monkeypatch.setattr(model._dreams, "join", lambda beginnings: starts.extend(beginnings) or join(beginnings))
    near = model.replay_buffer.sample_before_rewards(4 * model.imagination_horizon, 500, None)
    possible = model.policy.first_states(near).percept.unique(dim=0)
    model.train(8, model.batch_size)
    chosen = th.cat([state.percept for state in starts])
    assert len(chosen) >= model.imagination_starts
    assert all((percept == possible).all(1).any() for percept in chosen)
    assert len(possible) < len(
        model.policy.first_states(model.replay_buffer.sample_sequences(500, 1)).percept.unique(dim=0)
    )


def test_a_single_dreamt_step_has_no_standard_deviation() -> None:
    model = tiny(Walk(), batch_size=1, sequence_length=2, imagination_horizon=1, dream_length=1).learn(60)
    assert all(th.isfinite(value).all() for value in parameters(model).values())
