"""The package's wrappers, alone and among those of Gymnasium and sb3-contrib; rewards of the user's own."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import FlattenObservation, FrameStackObservation, RecordEpisodeStatistics, TimeLimit
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from sb3_contrib.common.wrappers import ActionMasker

from tests.tetris_gym.games import ENV_IDS
from tetris_gym import Outcome
from tetris_gym.wrappers import GapStart, PadObservation, RewardMode


def rewards(env: gym.Env, steps: int = 150) -> list[float]:
    """The rewards of random play."""
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    found = []
    for _ in range(steps):
        _, reward, terminated, truncated, _ = env.step(int(rng.integers(env.action_space.n)))
        found.append(reward)
        if terminated or truncated:
            env.reset()
    return found


@pytest.mark.parametrize("env_id", ENV_IDS.values())
@pytest.mark.parametrize("mode", ["standard", "lines_only"])
@pytest.mark.parametrize("inner", ["standard", "lines_only"])
def test_reward_mode_replaces_the_reward(env_id, mode, inner):
    wrapped = RewardMode(gym.make(env_id, reward_mode=inner, difficulty=8), mode)
    assert rewards(wrapped) == rewards(gym.make(env_id, reward_mode=mode, difficulty=8))


@pytest.mark.parametrize("env_id", ENV_IDS.values())
def test_a_reward_of_the_users_own(env_id):
    outcomes: list[Outcome] = []

    def count_pieces(outcome: Outcome) -> float:
        outcomes.append(outcome)
        return 0.5 * outcome.placed - outcome.game_over

    env = gym.make(env_id, reward_mode=count_pieces)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    terminated, steps = False, 0
    while not terminated:
        _, reward, terminated, _, info = env.step(int(rng.integers(env.action_space.n)))
        steps += 1
        outcome = outcomes[-1]
        assert type(reward) is float
        assert reward == 0.5 * info["piece_placed"] - terminated
        assert (outcome.lines, outcome.placed) == (info["lines_cleared"], info["piece_placed"])
        for key in ("game_over", "level", "total_lines", "pieces_placed", "score", "aggregate_height", "holes"):
            assert getattr(outcome, key) == info[key]
        assert (outcome.bumpiness, outcome.max_height) == (info["bumpiness"], info["max_height"])
    assert len(outcomes) == steps
    assert rewards(RewardMode(gym.make(env_id), count_pieces)) == rewards(gym.make(env_id, reward_mode=count_pieces))


def test_an_outcome_tells_the_changes_since_the_last_lock():
    outcomes: list[Outcome] = []
    env = gym.make("TetrisDirect-v0", reward_mode=lambda outcome: outcomes.append(outcome) or 0.0, difficulty=3)
    _, info = env.reset(seed=0)
    last = info
    for action in [5, 7, 0, 5, 1, 1, 5, 2]:
        _, _, _, _, info = env.step(action)
        outcome = outcomes[-1]
        for key in ("aggregate_height", "holes", "bumpiness"):
            assert getattr(outcome, f"{key}_change") == (info[key] - last[key] if info["piece_placed"] else 0)
        last = info


@pytest.mark.parametrize("mode", ["dense", 3, None], ids=str)
def test_mistakes_of_reward_mode(mode):
    with pytest.raises(ValueError, match=r"standard.*lines_only.*callable"):
        RewardMode(gym.make("TetrisDirect-v0"), mode)
    with pytest.raises(TypeError, match="TetrisEnv"):
        RewardMode(gym.make("CartPole-v1"), "standard")


def test_mistakes_of_pad_observation():
    with pytest.raises(ValueError, match="at least 206"):
        PadObservation(gym.make("TetrisDirect-v0"), 200)
    with pytest.raises(TypeError, match="integer"):
        PadObservation(gym.make("TetrisDirect-v0"), 212.0)
    with pytest.raises(TypeError, match="Box"):
        PadObservation(gym.make("TetrisDirect-v0", obs_type="dict"), 212)


@pytest.mark.parametrize("env_id", ENV_IDS.values())
def test_wrappers_compose(env_id):
    env = gym.make(env_id, reward_mode="lines_only")
    for wrap in (
        lambda env: PadObservation(env, 212),
        RecordEpisodeStatistics,
        lambda env: RewardMode(env, "standard"),
        lambda env: FrameStackObservation(env, 4),
        FlattenObservation,
        lambda env: PadObservation(env, 900),
        lambda env: TimeLimit(env, 40),
        lambda env: ActionMasker(env, lambda env: env.get_wrapper_attr("action_masks")()),
    ):
        env = wrap(env)
    observation, _ = env.reset(seed=0)
    assert observation.shape == (900,)
    assert not observation[4 * 212 :].any()
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(90):
        mask = env.action_masks()
        assert np.array_equal(mask, env.unwrapped.action_masks())
        observation, _, terminated, truncated, _ = env.step(int(rng.choice(np.flatnonzero(mask))))
        assert env.observation_space.contains(observation)
        if terminated or truncated:
            ended += 1
            env.reset()
    assert ended >= 2


@pytest.mark.parametrize("env_id", ENV_IDS.values())
def test_maskable_algorithms_find_the_masks(env_id):
    env = gym.make(env_id)
    env.reset(seed=0)
    assert is_masking_supported(env)
    assert np.array_equal(get_action_masks(env), env.unwrapped.action_masks())


@pytest.mark.parametrize("env_id", ENV_IDS.values())
@pytest.mark.parametrize("difficulty", [1, 4, 10])
def test_gap_start(env_id, difficulty):
    env = GapStart(PadObservation(gym.make(env_id)), difficulty)
    observation, _ = env.reset(seed=7)
    assert np.array_equal(observation, env.reset(seed=7)[0])  # the seed draws the exercise, too
    gaps, heights, places = [], [], set()
    for _ in range(400):
        env.reset()
        field = env.unwrapped.scene().field > 0
        rows = field[field.any(axis=1)]
        assert (rows == rows[:1]).all()
        missing = np.flatnonzero(~rows[0]) if len(rows) else np.arange(0)
        assert (np.diff(missing) == 1).all()
        gaps.append(len(missing))
        heights.append(len(rows))
        places |= set(missing.tolist())
    assert set(gaps) == {0, *range(1, min(difficulty, 9) + 1)}
    assert set(heights) == {0, 3, 4, 5, 6}
    assert places == set(range(10))
    empty = 1 / 8 + 7 / 8 * (difficulty == 10) / 10
    assert abs(np.mean(np.array(heights) == 0) - empty) < 0.08


def test_gap_start_at_difficulty_0_is_the_game_itself():
    env, plain = GapStart(gym.make("TetrisDirect-v0")), gym.make("TetrisDirect-v0")
    assert np.array_equal(env.reset(seed=3)[0], plain.reset(seed=3)[0])
    env.set_difficulty(2)
    field = np.zeros((20, 10), dtype=int)
    field[-1, :9] = 1
    env.reset(options={"field": field})
    assert np.array_equal(env.unwrapped.scene().field[4:], field)


def test_gap_start_tells_successes():
    env = GapStart(gym.make("TetrisDirect-v0"), 1)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    told = []
    while len(set(told)) < 2:
        _, _, terminated, _, info = env.step(int(rng.integers(8)))
        assert ("is_success" in info) == terminated
        if terminated:
            assert info["is_success"] == (info["total_lines"] > 0)
            told.append(info["is_success"])
            env.reset()


def test_mistakes_of_gap_start():
    with pytest.raises(TypeError, match="TetrisEnv"):
        GapStart(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="0 to 10"):
        GapStart(gym.make("TetrisDirect-v0"), 11)
    env = GapStart(gym.make("TetrisDirect-v0"), 3)
    with pytest.raises(TypeError, match="integer"):
        env.set_difficulty(2.5)
    assert env.difficulty == 3
