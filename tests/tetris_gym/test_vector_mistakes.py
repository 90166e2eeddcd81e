"""What many games say to a user's mistakes."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from tests.tetris_gym.batches import COUNT, assert_same, native, sb3_pair
from tests.tetris_gym.games import ENV_IDS
from tetris_gym import TetrisVecEnv
from tetris_gym.vector import TetrisVectorEnv


@pytest.fixture(params=ENV_IDS)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize(
    ("actions", "error"),
    [
        (np.full(COUNT, -1), ValueError),
        ("too large", ValueError),
        (np.zeros(COUNT + 1, dtype=int), ValueError),
        (np.zeros((COUNT, 1), dtype=int), ValueError),
        (np.zeros(COUNT), TypeError),
        (["0"] * COUNT, TypeError),
        (None, TypeError),
        (np.zeros(COUNT, dtype=np.bool_), TypeError),
        ([False] * COUNT, TypeError),
        ((*[0] * (COUNT - 1), True), TypeError),
    ],
    ids=["negative", "too large", "too many", "a column", "floats", "texts", "nothing", "flags", "bools", "a bool"],
)
def test_mistaken_actions_are_refused_and_change_nothing(mode, actions, error):
    largest = {"direct": 7, "placement": 799}[mode]
    if isinstance(actions, str):
        actions = np.array([0] * (COUNT - 1) + [largest + 1])
    ours = native(mode)
    sb3 = TetrisVecEnv(COUNT, action_mode=mode)
    ours.reset(seed=0)
    sb3.seed(0)
    sb3.reset()
    for env, states in ((ours, lambda: ours.unwrapped.get_state()[0]), (sb3, lambda: sb3.get_state()[0])):
        before = states()
        with pytest.raises(error, match=f"{COUNT} integers from 0 to {largest}"):
            env.step(actions)
        assert_same([state.game for state in states()], [state.game for state in before])


def test_steps_and_masks_before_reset_are_refused(mode):
    for env in (native(mode).unwrapped, TetrisVecEnv(COUNT, action_mode=mode)):
        with pytest.raises(ResetNeeded, match="reset"):
            env.step(np.zeros(COUNT, dtype=int))
        with pytest.raises(ResetNeeded, match="reset"):
            env.action_masks()


def test_a_reward_function_must_return_a_number():
    for env in (native("direct", reward_mode=lambda outcome: None), TetrisVecEnv(2, reward_mode=lambda outcome: "x")):
        env.reset()
        with pytest.raises(TypeError, match="reward function must return a number"):
            env.step(np.zeros(env.num_envs, dtype=int))


@pytest.mark.parametrize("num_envs", [0, -1, 1.5, "8", None])
def test_mistaken_numbers_of_games(num_envs):
    for make in (TetrisVecEnv, TetrisVectorEnv):
        with pytest.raises((TypeError, ValueError), match="num_envs must be an integer of at least 1"):
            make(num_envs)


@pytest.mark.parametrize("make", [TetrisVecEnv, TetrisVectorEnv])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reward_mode", "dense"),
        ("obs_type", "image"),
        ("difficulty", 11),
        ("action_mode", "keys"),
        ("max_episode_steps", 0),
        ("max_episode_steps", 2**70),
    ],
)
def test_mistakes_of_the_constructors(make, name, value):
    with pytest.raises(ValueError, match=name):
        make(2, **{name: value})


def test_an_unknown_autoreset_mode_is_refused():
    with pytest.raises(ValueError, match=r"NextStep.*SameStep.*Disabled"):
        TetrisVectorEnv(2, autoreset_mode="never")


@pytest.mark.parametrize("seed", [1.5, "ab", True, [0] * (COUNT - 1) + [1.5], [False] * COUNT], ids=str)
def test_mistaken_seeds_are_refused(seed):
    with pytest.raises(TypeError, match=f"integer as seed, or {COUNT}"):
        native("direct").reset(seed=seed)


def test_only_states_of_as_many_games_can_be_restored(mode):
    for env in (native(mode).unwrapped, sb3_pair(mode)[0]):
        env.reset()
        snapshots, numbers = env.get_state()
        before = [snapshot.game.copy() for snapshot in snapshots]
        other = [snapshots[0]._replace(game=snapshots[1].game), *[None] * (COUNT - 1)]
        for state in (None, snapshots, (other, numbers), (snapshots, numbers.tolist())):
            with pytest.raises(TypeError, match=r"set_state\(\) expects"):
                env.set_state(state)
        for state in ((snapshots[1:], numbers), (snapshots, numbers[1:])):
            with pytest.raises(ValueError, match=f"expects {COUNT} snapshots"):
                env.set_state(state)
        assert_same([snapshot.game for snapshot in env.get_state()[0]], before)


def test_only_attributes_that_exist_can_be_set():
    for env in (native("direct").unwrapped, TetrisVecEnv(COUNT)):
        with pytest.raises(AttributeError, match="dificulty"):
            env.set_attr("dificulty", 3)
