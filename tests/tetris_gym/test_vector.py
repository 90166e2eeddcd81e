"""Many games in one call: the same trajectories as single games, in the conventions of Gymnasium and of SB3."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from tests.tetris_gym.batches import COUNT, LIMIT, SEED, assert_same, native, random_actions, sb3_pair, synchronous
from tests.tetris_gym.games import ENV_IDS
from tetris_gym import TetrisVecEnv
from tetris_gym.vector import TetrisVectorEnv

OBS_TYPES = ("flat", "dict", "rgb")
KEYWORDS: list[dict[str, Any]] = [
    {},
    {"difficulty": 9, "reward_mode": "lines_only"},
    {"pad_to": 212, "gravity_interval": 1, "reward_mode": lambda outcome: outcome.score / 3},
]


@pytest.fixture(params=ENV_IDS)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


# Gymnasium


@pytest.mark.parametrize("kwargs", KEYWORDS, ids=["plain", "difficult", "own reward"])
@pytest.mark.parametrize("autoreset", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=lambda mode: mode.value)
def test_the_native_vector_env_is_a_fast_sync_vector_env(mode, autoreset, kwargs):
    """The same observations, rewards, flags and infos, masks of the infos' presence included."""
    ours, theirs = native(mode, autoreset, **kwargs), synchronous(mode, autoreset, **kwargs)
    assert isinstance(ours.unwrapped, TetrisVectorEnv)
    assert ours.metadata["autoreset_mode"] == autoreset
    assert_same(ours.reset(seed=SEED), theirs.reset(seed=SEED))
    ends = 0
    for actions in random_actions(mode, 150):
        results = ours.step(actions), theirs.step(actions)
        assert_same(*results)
        ends += int((results[0][2] | results[0][3]).sum())
    assert ends >= COUNT
    assert_same(ours.reset(), theirs.reset())


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_spaces_and_observations_of_the_native_vector_env(mode, obs_type):
    ours, theirs = native(mode, obs_type=obs_type), synchronous(mode, obs_type=obs_type)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    assert ours.single_action_space == theirs.single_action_space
    assert ours.action_space == theirs.action_space
    assert ours.num_envs == COUNT
    assert_same(ours.reset(seed=SEED)[0], theirs.reset(seed=SEED)[0])
    for actions in random_actions(mode, 12):
        observation = ours.step(actions)[0]
        assert_same(observation, theirs.step(actions)[0])
        assert ours.observation_space.contains(observation)


def test_a_game_of_a_batch_behaves_as_a_single_environment(mode):
    """Game i with seed s + i against a single environment with that seed, step by step."""
    batch = native(mode, AutoresetMode.SAME_STEP)
    singles = [gym.make(ENV_IDS[mode], max_episode_steps=LIMIT) for _ in range(COUNT)]
    observations, _ = batch.reset(seed=SEED)
    assert_same(observations, np.stack([env.reset(seed=SEED + i)[0] for i, env in enumerate(singles)]))
    for actions in random_actions(mode, 100):
        observations, rewards, terminations, truncations, infos = batch.step(actions)
        for i, env in enumerate(singles):
            observation, reward, terminated, truncated, info = env.step(int(actions[i]))
            assert (rewards[i], terminations[i], truncations[i]) == (reward, terminated, truncated)
            if terminated or truncated:
                assert np.array_equal(infos["final_obs"][i], observation)
                assert infos["final_info"]["score"][i] == info["score"]
                observation, info = env.reset()
            assert np.array_equal(observations[i], observation)
            assert infos["score"][i] == info["score"]

            assert np.array_equal(batch.unwrapped.action_masks()[i], env.unwrapped.action_masks())


def test_without_autoreset_a_game_waits_for_its_reset():
    env = native("direct", AutoresetMode.DISABLED, difficulty=10)
    env.reset(seed=SEED)
    ended = np.zeros(COUNT, dtype=np.bool_)
    while not ended.any():
        _, _, terminations, truncations, _ = env.step(np.full(COUNT, 5))
        ended = terminations | truncations
    with pytest.raises(ResetNeeded, match="over"):
        env.step(np.full(COUNT, 5))
    before = env.unwrapped.get_state()[0]
    observations, infos = env.reset(options={"reset_mask": ended})
    for i, (one, other) in enumerate(zip(before, env.unwrapped.get_state()[0], strict=True)):
        assert np.array_equal(one.game, other.game) != ended[i]
    assert np.array_equal(infos["_score"], ended)
    assert not infos["pieces_placed"][ended].any()
    assert observations.shape == (COUNT, 206)
    env.step(np.full(COUNT, 5))


def test_seeds_of_the_native_vector_env():
    env = native("direct")
    one = env.reset(seed=5)[0]
    assert np.array_equal(env.reset(seed=[5 + i for i in range(COUNT)])[0], one)
    assert np.array_equal(env.reset(seed=5 + np.arange(COUNT))[0], one)
    assert np.array_equal(env.reset(seed=0)[0], env.reset(seed=0)[0])
    mixed = env.reset(seed=[5, *[None] * (COUNT - 1)])[0]
    assert np.array_equal(mixed[0], one[0])
    with pytest.raises(ValueError, match=f"{COUNT} seeds"):
        env.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(options={"mask": True})


def test_results_belong_to_the_caller(mode):
    """What a step has returned never changes."""
    ours, sb3 = native(mode, AutoresetMode.SAME_STEP), TetrisVecEnv(COUNT, action_mode=mode, max_episode_steps=LIMIT)
    kept = [ours.reset(seed=1), sb3.reset()]
    then = copy.deepcopy(kept)
    for actions in random_actions(mode, 80):
        kept += [ours.step(actions), sb3.step(actions), ours.unwrapped.action_masks(), sb3.action_masks()]
        then += copy.deepcopy(kept[-4:])
    kept += [ours.reset(), sb3.reset()]
    assert_same(kept[:-2], then)


def test_states_and_copies_of_many_games(mode):
    """Snapshots, and copies even after single games were looked at, have the same future."""
    for env in (native(mode).unwrapped, sb3_pair(mode)[0]):
        env.reset()
        for actions in random_actions(mode, 20):
            env.step(actions)
        (env.env_method if isinstance(env, VecEnv) else env.call)("action_masks")
        twin = copy.deepcopy(env)
        state = env.get_state()
        future = [without_time(env.step(actions)) for actions in random_actions(mode, 70, seed=1)]
        assert_same([without_time(twin.step(actions)) for actions in random_actions(mode, 70, seed=1)], future)
        assert np.array_equal(env.action_masks(), twin.action_masks())
        env.set_state(state)
        assert_same([without_time(env.step(actions)) for actions in random_actions(mode, 70, seed=1)], future)
        twin.set_difficulty(9) if isinstance(twin, VectorEnv) else twin.env_method("set_difficulty", 9)
        assert difficulties(env) == [0] * COUNT
        assert difficulties(twin) == [9] * COUNT


def difficulties(env: Any) -> list[int]:
    return list(env.get_attr("difficulty"))


def without_time(results: Any) -> Any:
    """A step's results without the seconds in SB3's episode statistics."""
    infos = results[-1]
    if isinstance(infos, list):
        infos = [{**info, "episode": {**info["episode"], "t": 0}} if "episode" in info else info for info in infos]
    return (*results[:-1], infos)


# Stable-Baselines3


@pytest.mark.parametrize("kwargs", KEYWORDS, ids=["plain", "difficult", "own reward"])
def test_tetris_vec_env_is_a_fast_make_vec_env(mode, kwargs):
    """The same observations, rewards, dones and infos, terminal observations and episode statistics included."""
    ours, theirs = sb3_pair(mode, **kwargs)
    assert_same(ours.reset(), theirs.reset())
    assert_same(ours.reset_infos, theirs.reset_infos)
    ends = {False: 0, True: 0}
    for actions in random_actions(mode, 150):
        results = ours.step(actions), theirs.step(actions)
        assert_same(without_time(results[0]), without_time(results[1]))
        for done, info in zip(*results[0][2:], strict=True):
            assert ("episode" in info) == ("terminal_observation" in info) == done
            if done:
                ends[info["TimeLimit.truncated"]] += 1
        assert_same(ours.reset_infos, theirs.reset_infos)
        assert_same(ours.env_method("action_masks"), theirs.env_method("action_masks"))
    assert sum(ends.values()) > COUNT
    assert ends[False] > 0
    assert ends[True] > 0 or mode == "placement" or kwargs.get("difficulty")
    assert_same(ours.reset(), theirs.reset())


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_spaces_and_observations_of_tetris_vec_env(mode, obs_type):
    ours, theirs = sb3_pair(mode, obs_type=obs_type, difficulty=10)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    results = [(ours.reset(), theirs.reset())]
    results += [(ours.step(actions), theirs.step(actions)) for actions in random_actions(mode, 15)]
    ends = 0
    for one, other in results[1:]:
        as_plain = dict if obs_type == "dict" else np.asarray
        assert_same(as_plain(one[0]), as_plain(other[0]))
        for info, expected in zip(one[3], other[3], strict=True):
            assert ("terminal_observation" in info) == ("terminal_observation" in expected)
            if "terminal_observation" in info:
                ends += 1
                assert_same(info["terminal_observation"], expected["terminal_observation"])
    assert ends > 0


@pytest.mark.parametrize("mode", ENV_IDS)
def test_all_three_forms_give_the_same_trajectories(mode):
    sb3, stock = sb3_pair(mode)
    gymnasium = native(mode, AutoresetMode.SAME_STEP)
    observations = [sb3.reset(), stock.reset(), gymnasium.reset(seed=SEED)[0]]
    for actions in random_actions(mode, 120):
        assert_same(observations[0], observations[1])
        assert_same(observations[0], observations[2])
        ours, theirs = sb3.step(actions), stock.step(actions)
        observation, rewards, terminations, truncations, _ = gymnasium.step(actions)
        observations = [ours[0], theirs[0], observation]
        assert_same(ours[1], theirs[1])
        assert_same(ours[1], rewards.astype(np.float32))
        assert_same(ours[2], theirs[2])
        assert_same(ours[2], terminations | truncations)


def test_episode_statistics_are_sums_over_the_episode():
    env = TetrisVecEnv(COUNT, max_episode_steps=LIMIT)
    env.seed(SEED)
    env.reset()
    returns, lengths, episodes = np.zeros(COUNT), np.zeros(COUNT, dtype=int), 0
    for actions in random_actions("direct", 200):
        _, rewards, dones, infos = env.step(actions)
        returns += rewards
        lengths += 1
        for i in np.flatnonzero(dones):
            episode = infos[i]["episode"]
            assert episode["r"] == pytest.approx(returns[i], abs=1e-4)
            assert episode["l"] == lengths[i] <= LIMIT
            assert episode["t"] > 0
            episodes += 1
        returns[dones], lengths[dones] = 0, 0
    assert episodes > COUNT


def test_methods_and_attributes_of_single_games(mode):
    ours, theirs = sb3_pair(mode)
    ours.reset()
    theirs.reset()
    assert is_masking_supported(ours)
    assert_same(get_action_masks(ours), get_action_masks(theirs))
    assert_same(ours.env_method("action_masks", indices=[2, 5]), theirs.env_method("action_masks", indices=[2, 5]))
    assert_same(ours.env_method("action_masks", indices=3), theirs.env_method("action_masks", indices=3))
    assert ours.get_attr("action_mode") == [mode] * COUNT
    ours.env_method("set_difficulty", 4, indices=[1])
    ours.set_attr("difficulty", 6, indices=[2])
    assert ours.get_attr("difficulty") == [0, 4, 6, 0, 0, 0, 0, 0]
    ours.reset()
    assert [info["max_height"] for info in ours.reset_infos] == [0, 4, 6, 0, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="step"):
        ours.env_method("step", 0)
    with pytest.raises(AttributeError):
        ours.get_attr("no_such_attribute")


def test_the_wrappers_of_stable_baselines3_fit_around_it():
    env = TetrisVecEnv(COUNT, max_episode_steps=LIMIT)
    assert env.env_is_wrapped(Monitor) == [True] * COUNT
    assert env.env_is_wrapped(gym.wrappers.TimeLimit) == [False] * COUNT
    assert not is_wrapped(gym.make("TetrisDirect-v0"), Monitor)
    wrapped = VecNormalize(VecFrameStack(env, 3), norm_obs=False)
    assert wrapped.reset().shape == (COUNT, 3 * 206)
    episodes = [
        (info["episode"]["l"], done)
        for actions in random_actions("direct", 100)
        for info, done in zip(*reversed(wrapped.step(actions)[2:]), strict=True)
        if "episode" in info
    ]
    assert len(episodes) >= COUNT
    assert all(done and 0 < length <= LIMIT for length, done in episodes)


def test_options_are_refused():
    env = TetrisVecEnv(2)
    env.set_options({"level": 3})
    with pytest.raises(ValueError, match="options"):
        env.reset()
