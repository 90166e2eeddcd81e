"""Playing: the timing of keys, games told the time by a made-up clock, windows that nobody sees, the command line."""

import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from tetris_gym.__main__ import main
from tetris_gym.engine import HARD_DROP, MOVE_LEFT, MOVE_RIGHT, NO_OP, SOFT_DROP
from tetris_gym.env import TetrisEnv
from tetris_gym.keyboard import AutoRepeat
from tetris_gym.play import KeyboardGame, play, row_seconds


class Listening(gym.Wrapper):
    """Writes down the actions."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.actions: list[int] = []

    def step(self, action):
        self.actions.append(action)
        return super().step(action)


def new_game(**kwargs) -> tuple[KeyboardGame, list[int]]:
    env = Listening(TetrisEnv(**kwargs))
    game = KeyboardGame(env, seed=0, das=0.2, arr=0.05)
    game.restart(0.0)
    return game, env.actions


@pytest.fixture
def window(monkeypatch):
    """pygame with a window that nobody sees, and no events left over."""
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    pygame.event.clear()
    yield pygame
    pygame.display.quit()


class TestAutoRepeat:
    def test_a_held_key_repeats_after_its_delay(self):
        keys = AutoRepeat(0.2, 0.05)
        keys.press(0, 1.0)
        assert keys.due(1.19) == []
        assert keys.due(1.21) == [0]
        assert keys.due(1.24) == []
        assert keys.due(1.26) == [0]

    def test_no_repeat_is_lost_or_doubled_by_slow_polling(self):
        keys = AutoRepeat(0.2, 0.05)
        keys.press(0, 0.0)
        assert keys.due(0.41) == [0] * 5
        assert keys.due(0.41) == []

    def test_a_released_key_stops(self):
        keys = AutoRepeat(0.2, 0.05)
        keys.press(0, 0.0)
        keys.release(0, 0.1)
        assert keys.due(9.0) == []

    def test_the_last_pressed_of_two_directions_wins(self):
        keys = AutoRepeat(0.2, 0.05, exclusive=(0, 1))
        keys.press(0, 0.0)
        keys.press(1, 0.1)
        assert keys.due(0.31) == [1]
        keys.release(1, 0.32)
        assert keys.due(0.51) == []
        assert keys.due(0.53) == [0]

    def test_letting_go_of_the_other_direction_changes_nothing(self):
        keys = AutoRepeat(0.2, 0.05, exclusive=(0, 1))
        keys.press(0, 0.0)
        keys.press(1, 0.1)
        keys.release(0, 0.29)
        assert keys.due(0.31) == [1]

    def test_keys_that_do_not_exclude_each_other_repeat_side_by_side(self):
        keys = AutoRepeat(0.2, 0.05, exclusive=(0, 1))
        keys.press(2, 0.0)
        keys.press(0, 0.02)
        assert keys.due(0.28) == [2, 0, 2, 0]

    def test_cleared_keys_must_be_pressed_again(self):
        keys = AutoRepeat(0.2, 0.05)
        keys.press(0, 0.0)
        keys.clear()
        keys.release(0, 0.1)
        assert keys.due(9.0) == []

    def test_bad_times(self):
        with pytest.raises(ValueError, match="delay"):
            AutoRepeat(-0.1, 0.05)
        with pytest.raises(ValueError, match="interval"):
            AutoRepeat(0.1, 0)


class TestRowSeconds:
    def test_guideline_speeds(self):
        assert row_seconds(0) == 1.0
        assert row_seconds(1) == pytest.approx(0.793)
        assert row_seconds(5) == pytest.approx(0.765**5)

    def test_never_slower_and_never_too_fast_to_play(self):
        seconds = [row_seconds(level) for level in range(300)]
        assert seconds == sorted(seconds, reverse=True)
        assert seconds[-1] == 0.1


class TestKeyboardGame:
    @pytest.mark.parametrize("interval", [1, 5, 7])
    @pytest.mark.parametrize("frames_per_second", [6, 60])
    def test_a_piece_left_alone_falls_a_row_in_the_seconds_of_the_level(self, interval, frames_per_second):
        game, actions = new_game(gravity_interval=interval)
        top = game.scene.piece_cells[0][0]
        for frame in range(1, 4 * frames_per_second):
            now = frame / frames_per_second
            game.advance(now + 1e-6)
            assert game.scene.piece_cells[0][0] == top + int(now)
        assert set(actions) == {NO_OP}

    def test_a_press_acts_at_once_and_puts_off_the_next_tick(self):
        game, actions = new_game()
        game.press(MOVE_LEFT, 0.19)
        game.release(MOVE_LEFT, 0.19)
        game.advance(0.38)
        assert actions == [MOVE_LEFT]
        game.advance(0.4)
        assert actions == [MOVE_LEFT, NO_OP]

    def test_a_held_key_shifts_the_piece_to_the_wall(self):
        game, actions = new_game(gravity_interval=1000)
        game.press(MOVE_RIGHT, 0.0)
        for now in np.arange(0, 1, 1 / 60):
            game.advance(now)
        assert actions.count(MOVE_RIGHT) > 8
        assert max(column for _, column in game.scene.piece_cells) == 9

    def test_a_held_soft_drop_spares_the_next_piece(self):
        game, actions = new_game()
        game.press(SOFT_DROP, 0.0)
        now = 0.0
        while not game.info["piece_placed"]:
            now += 1 / 60
            game.advance(now)
            assert now < 2
        dropped = actions.count(SOFT_DROP)
        game.advance(now + 0.3)
        assert actions.count(SOFT_DROP) == dropped
        game.release(SOFT_DROP, now + 0.3)
        game.press(SOFT_DROP, now + 0.3)
        game.advance(now + 0.36)
        assert actions.count(SOFT_DROP) == dropped + 2

    def test_a_pause_stops_time_and_keys(self):
        game, actions = new_game()
        game.press(MOVE_LEFT, 0.0)
        game.pause(0.1)
        game.advance(100.0)
        game.press(HARD_DROP, 100.0)
        assert actions == [MOVE_LEFT]
        game.pause(100.0)
        game.advance(100.19)
        assert actions == [MOVE_LEFT]
        game.advance(100.21)
        assert actions == [MOVE_LEFT, NO_OP]

    def test_a_stall_of_the_machine_drops_nothing(self):
        game, actions = new_game()
        game.advance(60.0)
        assert len(actions) <= 2

    def test_the_end_and_a_new_game(self):
        game, actions = new_game()
        while not game.over:
            game.press(HARD_DROP, 0.0)
        count = len(actions)
        game.press(HARD_DROP, 0.0)
        game.advance(50.0)
        game.pause(50.0)
        assert len(actions) == count
        assert not game.paused
        assert [info["game_over"] for info in game.results] == [True]
        game.restart(50.0)
        assert not game.over
        assert game.info["pieces_placed"] == 0
        game.press(HARD_DROP, 50.0)
        game.end()
        assert [info["pieces_placed"] for info in game.results][1:] == [1]

    def test_seeds_repeat_a_session(self):
        sessions = []
        for _ in range(2):
            game, _ = new_game()
            pieces = []
            for _ in range(3):
                pieces.append((game.scene.piece, *game.scene.preview))
                game.restart(0.0)
            sessions.append(pieces)
        assert sessions[0] == sessions[1]
        assert len(set(sessions[0])) > 1

    def test_a_line_clear_is_called_out_for_a_moment(self):
        game, _ = new_game()

        class Clearing(gym.Wrapper):
            def step(self, action):
                observation, reward, terminated, truncated, info = super().step(action)
                return observation, reward, terminated, truncated, {**info, "lines_cleared": 4}

        game.env = Clearing(game.env)
        assert game.callout(0.0) == ""
        game.press(HARD_DROP, 0.0)
        assert game.callout(0.5) == "TETRIS!"
        assert game.callout(1.5) == ""


class TestPlay:
    def test_keys_play_and_escape_ends(self, window):
        for key in (window.K_LEFT, window.K_UP, window.K_c, window.K_SPACE, window.K_SPACE):
            window.event.post(window.event.Event(window.KEYDOWN, key=key))
            window.event.post(window.event.Event(window.KEYUP, key=key))
        window.event.post(window.event.Event(window.KEYDOWN, key=window.K_ESCAPE))
        results = play(seed=0)
        assert [info["pieces_placed"] for info in results] == [2]
        assert not results[0]["game_over"]
        assert results[0]["score"] > 0
        assert not window.display.get_init()

    def test_closing_the_window_ends_an_agent_too(self, window):
        window.event.post(window.event.Event(window.QUIT))
        assert play(lambda observation: NO_OP, speed=1000) == []

    def test_pause_and_restart_keys(self, window):
        for key in (window.K_SPACE, window.K_p, window.K_SPACE, window.K_p, window.K_r, window.K_ESCAPE):
            window.event.post(window.event.Event(window.KEYDOWN, key=key))
        assert [info["pieces_placed"] for info in play(seed=0)] == [1]

    def test_an_agent_plays_and_is_filmed_without_a_window(self, tmp_path):
        image_module = pytest.importorskip("PIL.Image")
        observations = []

        class Agent:
            resets = 0

            def reset(self):
                self.resets += 1

            def __call__(self, observation):
                observations.append(observation)
                return np.array(HARD_DROP)

        agent = Agent()
        path = tmp_path / "game.gif"
        results = play(agent, seed=3, games=2, window=False, record=path, speed=20, scale=0.3)
        assert [info["game_over"] for info in results] == [True, True]
        assert agent.resets == 2
        assert len(observations) == sum(info["pieces_placed"] for info in results)
        with image_module.open(path) as image:
            assert image.n_frames == len(observations) + 2
            assert image.size == (204, 192)

    def test_an_environment_of_ones_own(self):
        env = gym.make("TetrisPlacement-v0", max_episode_steps=4)
        rng = np.random.default_rng(0)
        results = play(
            lambda _: rng.choice(np.flatnonzero(env.unwrapped.action_masks())),
            env,
            seed=0,
            difficulty=3,
            games=1,
            window=False,
        )
        assert results[0]["pieces_placed"] == 4
        assert env.unwrapped.difficulty == 3
        env.close()

    def test_another_environment_is_refused(self):
        with pytest.raises(TypeError, match="Tetris"):
            play(lambda observation: 0, "CartPole-v1", games=1, window=False)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"window": False}, "policy"),
            ({"games": 0}, "games"),
            ({"speed": 0}, "speed"),
            ({"scale": 0.1}, "at least 0.27"),
            ({"scale": float("nan")}, "at least 0.27"),
            ({"difficulty": 11}, "difficulty"),
            ({"env": "TetrisPlacement-v0"}, "direct"),
            ({"record": "game.avi"}, r"\.gif"),
            ({"das": -1}, "delay"),
        ],
    )
    def test_bad_arguments_say_what_was_expected(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            play(**arguments)


class TestCommandLine:
    def test_a_game_is_played_filmed_and_summed_up(self, window, tmp_path, capsys):
        for key in (window.K_SPACE, window.K_SPACE, window.K_ESCAPE):
            window.event.post(window.event.Event(window.KEYDOWN, key=key))
        path = tmp_path / "game.gif"
        assert main(["--seed", "0", "--difficulty", "2", "--scale", "0.5", "--record", str(path)]) == 0
        printed = capsys.readouterr().out
        assert "space" in printed
        assert "game 1: " in printed
        assert "2 pieces" in printed

    @pytest.mark.parametrize(
        "arguments", [["--record", "game.avi"], ["--difficulty", "11"], ["--scale", "0"], ["--seed", "-1"]]
    )
    def test_errors_take_one_line(self, arguments, capsys):
        assert main(arguments) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_no_display(self):
        environment = {**os.environ, "SDL_VIDEODRIVER": "no such driver"}
        done = subprocess.run(
            [sys.executable, "-m", "tetris_gym"], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 1
        assert done.stderr.startswith("tetris_gym: no window can be opened")
        assert len(done.stderr.splitlines()) == 1
