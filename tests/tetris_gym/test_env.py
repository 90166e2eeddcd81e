"""The environment as Gymnasium, Stable-Baselines3 and a user's mistakes meet it."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from tests.tetris_gym.games import ENV_IDS
from tests.tetris_gym.side_by_side import assert_same_info
from tetris_gym import TetrisEnv

NUM_ACTIONS = {"direct": 8, "placement": 800}
OBS_TYPES = ("flat", "dict", "rgb")


@pytest.fixture(params=ENV_IDS)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


def play(env: gym.Env, steps: int, seed: int = 0) -> list[tuple[Any, ...]]:
    """What so many random steps return; begins anew where an episode ends."""
    rng = np.random.default_rng(seed)
    results: list[tuple[Any, ...]] = []
    for _ in range(steps):
        results.append(env.step(int(rng.integers(env.action_space.n))))
        if results[-1][2] or results[-1][3]:
            results.append(env.reset())
    return results


def assert_same(results: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    """The same observations, rewards, flags and infos."""
    assert len(results) == len(expected)
    for one, other in zip(results, expected, strict=True):
        assert np.array_equal(one[0], other[0])
        assert one[1:-1] == other[1:-1]
        assert_same_info(one[-1], other[-1])


# Interfaces


def test_registration(mode):
    spec = gym.spec(ENV_IDS[mode])
    assert spec.max_episode_steps == 10_000
    env = gym.make(ENV_IDS[mode])
    assert isinstance(env.unwrapped, TetrisEnv)
    assert env.unwrapped.action_mode == mode
    assert env.action_space == gym.spaces.Discrete(NUM_ACTIONS[mode])
    assert env.observation_space == gym.spaces.Box(0.0, 1.0, (206,), np.float32)


@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("check", [check_env, sb3_check_env])
def test_environment_checkers_have_nothing_to_say(mode, obs_type, check):
    env = gym.make(ENV_IDS[mode], obs_type=obs_type, render_mode="rgb_array").unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(env)


@pytest.mark.parametrize("arguments", [{"obs_type": obs_type} for obs_type in OBS_TYPES] + [{"pad_to": 212}], ids=str)
def test_observations_lie_in_their_space(mode, arguments):
    env = gym.make(ENV_IDS[mode], **arguments)
    observations = [env.reset(seed=0)[0]] + [result[0] for result in play(env, 100)]
    assert all(env.observation_space.contains(observation) for observation in observations)


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_every_type_of_observation_is_of_the_same_game(mode, obs_type):
    flat, other = gym.make(ENV_IDS[mode]), gym.make(ENV_IDS[mode], obs_type=obs_type)
    flat.reset(seed=1)
    other.reset(seed=1)
    for one, another in zip(play(flat, 100), play(other, 100), strict=True):
        assert one[1:-1] == another[1:-1]
        assert_same_info(one[-1], another[-1])
        if obs_type == "dict" and not one[-1]["game_over"]:
            field = another[0]["stack"] + another[0]["falling_piece"]
            assert np.array_equal(one[0][:200], field.ravel())
            assert one[0][200:206] @ [1, 2, 4, 0, 0, 0] == another[0]["current"]
            assert one[0][200:206] @ [0, 0, 0, 1, 2, 4] == another[0]["preview"][0]


def test_the_last_dictionary_after_a_lock_out_has_no_current_piece():
    env = gym.make("TetrisDirect-v0", obs_type="dict")
    env.reset(seed=0)
    seen = set()
    for action in np.random.default_rng(0).choice([2, 3, 5], 10_000, p=[0.1, 0.5, 0.4]).tolist():
        observation, _, terminated, _, info = env.step(action)
        if terminated:
            lock_out = info["max_height"] > 20
            assert (observation["current"] == 7) == lock_out
            assert observation["falling_piece"].any() != lock_out
            seen.add(lock_out)
            env.reset()
    assert seen == {False, True}


def test_padding(mode):
    """``pad_to`` is the constructor's form of ``PadObservation``, and a plain one has neither."""
    from tetris_gym.wrappers import PadObservation

    envs = [gym.make(ENV_IDS[mode]), gym.make(ENV_IDS[mode], pad_to=212), PadObservation(gym.make(ENV_IDS[mode]), 212)]
    results = []
    for env in envs:
        env.reset(seed=3)
        results.append(play(env, 50))
    for plain, padded, wrapped in zip(*results, strict=True):
        assert padded[0].shape == (212,) and padded[0].dtype == np.float32
        assert np.array_equal(padded[0], np.append(plain[0], np.zeros(6)))
        assert np.array_equal(wrapped[0], padded[0])
    assert envs[1].observation_space == envs[2].observation_space


# Seeds


def test_a_seed_decides_everything(mode):
    for seed in (0, 1, 2**31 - 1):
        envs = [gym.make(ENV_IDS[mode]) for _ in range(2)]
        firsts = [[env.reset(seed=seed)] for env in envs]
        np.random.seed(len(firsts))  # the global generator must not matter
        assert_same(*[first + play(env, 150) for first, env in zip(firsts, envs, strict=True)])


def test_seed_0_is_a_seed():
    env = gym.make("TetrisDirect-v0")
    pieces = [tuple(env.reset(seed=seed)[0][200:]) for seed in range(30)]
    assert pieces[0] == tuple(env.reset(seed=0)[0][200:])
    assert len(set(pieces)) > 10


def test_a_reset_draws_one_number_and_play_none():
    env = gym.make("TetrisDirect-v0", difficulty=4)
    env.reset(seed=9)
    generator = np.random.default_rng(9)
    generator.integers(0, 2**64, dtype=np.uint64)
    for action in [0, 5, 6, 5, 3, 5, 5]:
        env.step(action)
        assert env.unwrapped.np_random.bit_generator.state == generator.bit_generator.state
    env.reset()
    generator.integers(0, 2**64, dtype=np.uint64)
    assert env.unwrapped.np_random.bit_generator.state == generator.bit_generator.state


# Copies


@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"]
)
def test_copies_have_the_same_future_and_share_nothing(mode, obs_type, duplicate):
    env = gym.make(ENV_IDS[mode], obs_type=obs_type)
    env.reset(seed=2)
    play(env, 10)
    twin = duplicate(env)
    before = env.unwrapped.get_state()
    future = play(twin, 60)
    after = env.unwrapped.get_state()
    assert np.array_equal(before.game, after.game)
    assert before.generator == after.generator
    for one, other in zip(play(env, 60), future, strict=True):
        assert one[1:-1] == other[1:-1]
        assert_same_info(one[-1], other[-1])
        keys = one[0] if obs_type == "dict" else [...]
        assert all(np.array_equal(one[0][key], other[0][key]) for key in keys)
    assert np.array_equal(env.unwrapped.action_masks(), twin.unwrapped.action_masks())


def test_a_restored_state_has_the_same_future(mode):
    env, other = (gym.make(ENV_IDS[mode], max_episode_steps=None) for _ in range(2))
    env.reset(seed=5)
    play(env, 7)
    state = env.unwrapped.get_state()
    kept = copy.deepcopy(state)
    future = play(env, 80)
    other.reset(seed=77)
    other.unwrapped.set_state(state)
    assert_same(play(other, 80), future)
    assert np.array_equal(state.game, kept.game), "a snapshot stays as it is"
    env.unwrapped.set_state(state)
    assert_same(play(env, 80), future)


@pytest.mark.parametrize("state", [None, 3, np.zeros(64, dtype=np.int64), "state", {}], ids=str)
def test_only_snapshots_can_be_restored(state):
    env = gym.make("TetrisDirect-v0").unwrapped
    env.reset(seed=0)
    with pytest.raises(TypeError, match="get_state"):
        env.set_state(state)


def test_results_belong_to_the_caller(mode):
    """What a step has returned never changes, and changing it changes no game."""
    env, untouched = gym.make(ENV_IDS[mode]), gym.make(ENV_IDS[mode])
    env.reset(seed=0)
    untouched.reset(seed=0)
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(30):
        action = int(rng.integers(env.action_space.n))
        result, expected = env.step(action), untouched.step(action)
        assert np.array_equal(result[0], expected[0])
        assert_same_info(result[-1], expected[-1])
        kept.append((expected, copy.deepcopy(expected)))
        result[0][:] = 9
        result[-1].update(score=-1, holes=-1)
        for array in result[-1].values():
            if isinstance(array, np.ndarray):
                array[:] = False
        if result[2]:
            env.reset()
            untouched.reset()
    for now, then in kept:
        assert np.array_equal(now[0], then[0])
        assert_same_info(now[-1], then[-1])


# Difficulty


def test_difficulty_takes_effect_at_the_next_reset():
    env = gym.make("TetrisDirect-v0")
    env.reset(seed=0)
    env.unwrapped.set_difficulty(7)
    assert env.unwrapped.difficulty == 7
    assert env.step(7)[-1]["max_height"] == 0
    assert env.unwrapped.gravity_interval == 5
    _, info = env.reset(seed=0)
    assert info["max_height"] == 7
    assert env.unwrapped.gravity_interval == 2
    made, _ = gym.make("TetrisDirect-v0", difficulty=7).reset(seed=0)
    assert np.array_equal(env.reset(seed=0)[0], made)
    env.unwrapped.set_difficulty(0)
    assert env.reset()[1]["max_height"] == 0


def test_a_given_gravity_interval_holds_at_every_difficulty():
    env = gym.make("TetrisDirect-v0", gravity_interval=3, difficulty=10)
    env.reset(seed=0)
    assert env.unwrapped.gravity_interval == 3


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"action_mode": "keys"}, ValueError, "direct.*placement"),
        ({"reward_mode": "dense"}, ValueError, "standard.*lines_only.*callable"),
        ({"reward_mode": None}, ValueError, "standard.*lines_only.*callable"),
        ({"reward_mode": np.zeros(2)}, ValueError, "standard.*lines_only.*callable"),
        ({"obs_type": "image"}, ValueError, "flat.*dict.*rgb"),
        ({"obs_type": np.array(["flat", "dict"])}, ValueError, "flat.*dict.*rgb"),
        ({"render_mode": "text"}, ValueError, "human.*rgb_array.*ansi"),
        ({"difficulty": -1}, ValueError, "0 to 10"),
        ({"difficulty": 11}, ValueError, "0 to 10"),
        ({"difficulty": 1.5}, TypeError, "0 to 10"),
        ({"difficulty": "easy"}, TypeError, "0 to 10"),
        ({"difficulty": True}, TypeError, "0 to 10"),
        ({"gravity_interval": 0}, ValueError, "from 1 to"),
        ({"gravity_interval": 2**70}, ValueError, "from 1 to"),
        ({"gravity_interval": 2.0}, TypeError, "from 1 to"),
        ({"pad_to": 205}, ValueError, "at least 206"),
        ({"pad_to": 212.0}, TypeError, "at least 206"),
        ({"pad_to": 212, "obs_type": "dict"}, ValueError, "flat"),
        ({"gravity": 3}, TypeError, "gravity"),
    ],
    ids=str,
)
def test_mistakes_of_the_constructor(arguments, error, message):
    with pytest.raises(error, match=message):
        TetrisEnv(**arguments)


@pytest.mark.parametrize(
    ("difficulty", "error"), [(-1, ValueError), (11, ValueError), (2.5, TypeError), (None, TypeError)]
)
def test_mistakes_of_set_difficulty(difficulty, error):
    env = TetrisEnv(difficulty=4)
    with pytest.raises(error, match="0 to 10"):
        env.set_difficulty(difficulty)
    assert env.difficulty == 4


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (-1, ValueError), ("n", ValueError), (2**70, ValueError), (np.int64(-3), ValueError),
        (1.0, TypeError), (np.float32(1), TypeError), ("1", TypeError), (None, TypeError), ([1], TypeError),
        (np.array([1]), TypeError), (True, TypeError), (False, TypeError), (np.True_, TypeError),
        (np.array(True), TypeError),
    ],
    ids=str,
)  # fmt: skip
def test_mistaken_actions_are_refused_and_change_nothing(mode, action, error):
    env = gym.make(ENV_IDS[mode])
    env.reset(seed=0)
    before = env.unwrapped.get_state().game
    with pytest.raises(error, match=f"0 to {NUM_ACTIONS[mode] - 1}"):
        env.step(NUM_ACTIONS[mode] if action == "n" else action)
    assert np.array_equal(env.unwrapped.get_state().game, before)


@pytest.mark.parametrize("kind", [int, np.int64, np.int32, np.uint8, np.array], ids=lambda kind: kind.__name__)
def test_actions_of_every_integer_type_are_the_same(mode, kind):
    envs = [gym.make(ENV_IDS[mode]) for _ in range(2)]
    for env in envs:
        env.reset(seed=0)
    assert_same([envs[0].step(kind(5))], [envs[1].step(5)])


def test_steps_and_masks_before_reset_are_refused(mode):
    env = gym.make(ENV_IDS[mode])
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(0)
    with pytest.raises(ResetNeeded, match="reset"):
        env.unwrapped.action_masks()


@pytest.mark.parametrize("reward", [None, "much", [1, 2]], ids=str)
def test_a_reward_function_must_return_a_number(reward):
    env = gym.make("TetrisDirect-v0", reward_mode=lambda outcome: reward)
    env.reset(seed=0)
    with pytest.raises(TypeError, match="reward function must return a number"):
        env.step(0)


def test_a_step_after_the_end_is_refused(mode):
    env = gym.make(ENV_IDS[mode])
    env.reset(seed=0)
    terminated = False
    while not terminated:
        _, _, terminated, _, _ = env.step(5)
    before = env.unwrapped.get_state().game
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(5)
    assert np.array_equal(env.unwrapped.get_state().game, before)
    env.reset()
    env.step(5)


@pytest.mark.parametrize("obs_type", ["flat", "dict", "rgb"])
def test_a_game_may_begin_with_any_stack(mode, obs_type):
    field = np.zeros((20, 10), dtype=np.int64)
    field[-3:] = 8
    field[-3:, 4] = 0
    field[-3, 7] = 2
    env = gym.make(ENV_IDS[mode], obs_type=obs_type)
    observation, info = env.reset(seed=0, options={"field": field})
    assert np.array_equal(env.unwrapped.scene().field[4:], field)
    assert (info["aggregate_height"], info["holes"], info["max_height"]) == (27, 0, 3)
    assert env.observation_space.contains(observation)
    plain, _ = gym.make(ENV_IDS[mode], obs_type=obs_type).reset(seed=0)
    if obs_type == "flat":
        assert np.array_equal(observation[:200].reshape(20, 10)[3:], field[3:] > 0)
        assert np.array_equal(observation[200:], plain[200:])  # the same pieces
    elif obs_type == "dict":
        assert np.array_equal(observation["current"], plain["current"])
    else:
        assert not np.array_equal(observation, plain)
    if mode == "placement":
        assert np.array_equal(info["action_mask"], env.unwrapped.action_masks())
    assert env.reset()[1]["aggregate_height"] == 0  # this once


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 3}, "no options but"),
        ({"field": np.zeros((20, 10), dtype=int), "level": 3}, "no options but"),
        ({"field": np.zeros((24, 10), dtype=int)}, "20 x 10 integers.*\\(24, 10\\)"),
        ({"field": np.zeros((20, 10))}, "float64"),
        ({"field": None}, "20 x 10 integers"),
        ({"field": np.full((20, 10), 9)}, "0 to 8.*got 9"),
        ({"field": np.full((20, 10), -1)}, "0 to 8.*got -1"),
        ({"field": np.eye(20, 10, dtype=int)}, "two highest rows"),
        ({"field": np.repeat([0, 1], [10, 10])[:, None] * np.ones(10, dtype=int)}, "full row"),
    ],
)
def test_mistakes_of_reset_options(options, message):
    env = TetrisEnv()
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match=message):
        env.reset(seed=1, options=options)
    assert np.array_equal(env.get_state().game, before.game)
    assert env.get_state().generator == before.generator


def test_a_time_limit_truncates_and_does_not_terminate():
    env = gym.make("TetrisDirect-v0", max_episode_steps=9)
    env.reset(seed=0)
    flags = [env.step(7)[2:4] for _ in range(9)]
    assert flags == [(False, False)] * 8 + [(False, True)]
