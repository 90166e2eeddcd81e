"""The environments that benchmarks define: what they show, when they end, and that seeds decide everything."""

import numpy as np
import pytest

from benchmarks.memory import FORWARD, LEFT, RIGHT, Recall


@pytest.mark.parametrize("seed", range(4))
def test_who_remembers_the_sign_finds_the_prize(seed: int) -> None:
    env = Recall(length=3)
    sign, _ = env.reset(seed=seed)
    assert sign.sum() == 1 and not sign[2]
    side, other = (LEFT, RIGHT) if sign[0] else (RIGHT, LEFT)
    for _ in range(2):
        for action, cost in ((side, -0.1), (FORWARD, 0.0)):  # a turn in the corridor runs into a wall
            seen, reward, ended, _, _ = env.step(action)
            assert not seen.any() and reward == cost and not ended
    assert env.step(FORWARD)[0].tolist() == [0, 0, 1]
    assert env.step(FORWARD)[:3] == (pytest.approx([0, 0, 1]), -0.1, False)
    assert env.step(side)[1:3] == (1.0, True)
    env.reset(seed=seed)
    for _ in range(3):
        env.step(FORWARD)
    assert env.step(other)[1:3] == (-1.0, True)


def test_a_corridor_has_a_length() -> None:
    with pytest.raises(ValueError, match="not 0"):
        Recall(length=0)


def test_breakout_shows_the_planes_of_the_game() -> None:
    pytest.importorskip("minatar")
    from benchmarks.pictures import Breakout

    env = Breakout()
    seen, _ = env.reset(seed=1)
    planes = seen.reshape(4, 10, 10)
    assert [int(plane.sum()) for plane in planes] == [1, 1, 1, 30]  # paddle, ball, trail, three rows of bricks
    np.testing.assert_array_equal(planes.transpose(1, 2, 0), env.game.state())
    assert [grid["start"] for grid in env.observation_layout["grids"]] == [0, 100, 200, 300]
    games = []
    for _ in range(2):
        env.reset(seed=7)
        steps = [env.step(step % 3) for step in range(60)]
        games.append([(seen.tolist(), *rest) for seen, *rest in steps])
    assert games[0] == games[1]
    assert any(ended for _, _, ended, _, _ in games[0])


def test_control_tasks_repeat_actions_and_end_by_a_time_limit() -> None:
    pytest.importorskip("dm_control")
    pytest.importorskip("shimmy")
    from benchmarks.dmc import ControlTask

    env, single = ControlTask("cartpole", "swingup"), ControlTask("cartpole", "swingup", repeat=1)
    first, _ = env.reset(seed=3)
    assert first.shape == env.observation_space.shape == (5,) and first.dtype == np.float32
    assert np.array_equal(env.reset(seed=3)[0], first) and not np.array_equal(env.reset(seed=4)[0], first)
    env.reset(seed=3)
    single.reset(seed=3)
    for step in range(500):
        seen, reward, terminated, truncated, _ = env.step(env.action_space.high)
        halves = [single.step(env.action_space.high) for _ in range(2)]
        assert np.array_equal(seen, halves[1][0]) and reward == halves[0][1] + halves[1][1]
        assert not terminated and truncated == halves[1][3] == (step == 499)
