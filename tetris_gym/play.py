"""
Play with a keyboard, or watch an agent play.

The game is the environment itself, moved by its own eight actions, so that a human meets exactly the rules that an
agent learns: no lock delay, and gravity that counts steps, not seconds. A person needs seconds, hence two clocks:

- each key press, and each repeat of a held key, is one step of the environment;
- while no key acts, the environment is stepped with no-ops, so often that a piece left alone falls one row in
  :func:`row_seconds` of the level.

A step by key puts off the next no-op, but it does count for gravity: with ``gravity_interval=5`` every fifth press
moves the piece down a row too. Quick fingers thus make pieces fall faster than in a game with a clock of its own, and
at difficulty 8 and above, where every step falls a row, each press costs one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from tetris_gym.engine import (
    HARD_DROP,
    HOLD_PIECE,
    MOVE_LEFT,
    MOVE_RIGHT,
    NO_OP,
    NUM_ACTIONS,
    ROTATE_CLOCKWISE,
    ROTATE_COUNTERCLOCKWISE,
    SOFT_DROP,
)
from tetris_gym.env import TetrisEnv
from tetris_gym.keyboard import AutoRepeat
from tetris_gym.painting import import_pygame
from tetris_gym.recording import FilmWriter
from tetris_gym.rendering import CELL, SMALLEST_CELL, Scene, TetrisRenderer

Policy = Callable[[Any], Any]
Film = FilmWriter | None

FRAMES_PER_SECOND = 60
FILM_FRAMES_PER_SECOND = 30
SOFT_DROP_SECONDS = 0.05
CALLOUT_SECONDS = 1.0
RESULT_SECONDS = 2.0  #: how long the end of an agent's game stays
LONGEST_LAG = 0.25  #: seconds; a longer stall of the machine does not make the piece fall
CALLOUTS = ("SINGLE", "DOUBLE", "TRIPLE", "TETRIS!")
PAUSED = ("PAUSED", "P: go on", "R: restart", "Esc: quit")


def row_seconds(level: int) -> float:
    """
    :param level: lines cleared divided by ten
    :return: seconds in which a piece left alone falls a row: the guideline's ``(0.8 - 0.007 * level) ** level``
        (https://tetris.wiki/Marathon), but never under 0.1, because there is no lock delay to move in afterwards
    """
    return max(0.1, (0.8 - 0.007 * min(level, 100)) ** level)


def _tetris_of(env: gym.Env[Any, Any]) -> TetrisEnv:
    tetris = env.unwrapped
    if not isinstance(tetris, TetrisEnv):
        raise TypeError(f"play() needs a Tetris environment, wrapped or not, got {env}")
    return tetris


class KeyboardGame:
    """
    A game in real time over an environment in direct mode. It reads no clock and no keyboard: both are told to it.

    :param env: the environment
    :param seed: of the first game; the later ones go on from it
    :param das: delayed auto shift, seconds from a press of left or right to its first repeat
    :param arr: auto repeat rate, seconds between repeats
    """

    def __init__(self, env: gym.Env, seed: int | None = None, das: float = 0.167, arr: float = 0.033) -> None:
        self.env = env
        self._tetris = _tetris_of(env)
        self.paused = False
        self.over = False
        self.info: dict[str, Any] = {}
        self.results: list[dict[str, Any]] = []  #: the last info of each game in which a piece was placed
        self._shift = AutoRepeat(das, arr, exclusive=(MOVE_LEFT, MOVE_RIGHT))
        self._drop = AutoRepeat(SOFT_DROP_SECONDS, SOFT_DROP_SECONDS)
        self._tick_at = 0.0
        self._praise = ("", 0.0)
        self._seed = seed

    @property
    def scene(self) -> Scene:
        """What the picture shows."""
        return self._tetris.scene()

    def restart(self, now: float) -> None:
        """
        Begin a game.

        :param now: the time in seconds, on any clock that does not run backwards; so in every method
        """
        self.end()
        _, self.info = self.env.reset(seed=self._seed)
        self._seed = None
        self.over = self.paused = False
        self._praise = ("", now)
        self._let_go()
        self._expect_tick(now)

    def end(self) -> None:
        """Note the result of a game that is broken off."""
        if not self.over and self.info.get("pieces_placed"):
            self.results.append(self.info)
        self.info = {}

    def press(self, action: int, now: float) -> None:
        """The key of an action goes down."""
        if self.paused or self.over:
            return
        if action == SOFT_DROP:
            self._drop.press(action, now)
        elif action in (MOVE_LEFT, MOVE_RIGHT):
            self._shift.press(action, now)
        self._step(action, now)

    def release(self, action: int, now: float) -> None:
        """The key of an action goes up."""
        self._drop.release(action, now)
        self._shift.release(action, now)

    def pause(self, now: float) -> None:
        """Stop the clocks, or let them go on."""
        if not self.over:
            self.paused = not self.paused
            self._let_go()
            self._expect_tick(now)

    def advance(self, now: float) -> None:
        """Do what has fallen due: repeats of held keys, and gravity's no-ops."""
        if self.paused or self.over:
            return
        for action in self._shift.due(now) + self._drop.due(now):
            self._step(action, now)
            if self.info["piece_placed"]:
                break  # what is left was meant for that piece
        self._tick_at = max(self._tick_at, now - LONGEST_LAG)
        while not self.over and self._tick_at <= now:
            self._step(NO_OP, self._tick_at)

    def callout(self, now: float) -> str:
        """:return: the name of a line clear for a moment after it"""
        text, until = self._praise
        return text if now < until else ""

    def _step(self, action: int, now: float) -> None:
        _, _, terminated, truncated, self.info = self.env.step(action)
        self._expect_tick(now)
        if self.info["piece_placed"]:
            self._drop.clear()  # a held soft drop must not throw down the next piece as well
        if self.info["lines_cleared"]:
            self._praise = (CALLOUTS[self.info["lines_cleared"] - 1], now + CALLOUT_SECONDS)
        if terminated or truncated:
            self.results.append(self.info)
            self.over = True

    def _expect_tick(self, now: float) -> None:
        self._tick_at = now + row_seconds(self.info["level"]) / self._tetris.gravity_interval

    def _let_go(self) -> None:
        self._shift.clear()
        self._drop.clear()


class _Screen:
    """A window, a film, both or neither, with the commands that the window's keys give."""

    def __init__(self, scale: float, fps: float, window: bool, film: Film) -> None:
        self.film = film
        self.window = window
        self._renderer = TetrisRenderer("human", cell=round(CELL * scale), fps=fps)

    def show(self, scene: Scene, veil: tuple[str, ...] = (), callout: str = "") -> None:
        if self.window:
            self._renderer.draw(scene, veil, callout)

    def shoot(self, scene: Scene, veil: tuple[str, ...] = (), callout: str = "", repeat: int = 1) -> None:
        if self.film is not None and repeat > 0:
            self.film.add(self._renderer.paint(scene, veil, callout), repeat)

    def events(self) -> list[Any]:
        return import_pygame().event.get() if self.window else []

    def close(self) -> None:
        self._renderer.close()


def play(
    policy: Policy | None = None,
    env: gym.Env | str = "TetrisDirect-v0",
    *,
    seed: int | None = None,
    difficulty: int | None = None,
    scale: float = 1.0,
    record: str | Path | None = None,
    games: int | None = None,
    window: bool = True,
    speed: float = 15.0,
    das: float = 0.167,
    arr: float = 0.033,
) -> list[dict[str, Any]]:
    """
    Play with the keyboard, or let a policy play. Esc or closing the window ends it, P pauses, R starts a new game.

    :param policy: called with an observation, returns an action; None gives the keyboard to you. Where it has a method
        ``reset``, that is called at the start of each game (an agent with a memory).
    :param env: an environment of ours, wrapped as the policy needs it, or an id, made without a time limit for a human
    :param seed: of the first game; the later ones go on from it
    :param difficulty: 0 to 10, see ``set_difficulty``
    :param scale: size of the picture, 1 being 680 x 640 pixels
    :param record: a film of it, ending in ``.mp4`` or ``.gif``
    :param games: how many games; None for no limit
    :param window: False plays without a display, for instance to record an agent; needs a policy and ``games``
    :param speed: steps a second of a policy
    :param das: delayed auto shift of the keyboard in seconds
    :param arr: auto repeat rate of the keyboard in seconds
    :return: the last ``info`` of each game in which a piece was placed, the broken-off one included
    :raises TypeError: when the environment is not one of ours
    :raises ValueError: where one of these is out of range, saying what was expected
    :raises DependencyNotInstalled: when pygame, or what the film needs, is missing
    """
    if games is not None and games < 1:
        raise ValueError(f"games must be at least 1, or None for no limit, got {games}")
    if not window and (policy is None or games is None):
        raise ValueError("without a window there must be a policy and a number of games")
    if not SMALLEST_CELL <= scale * CELL < math.inf:
        raise ValueError(f"scale must be a number of at least {SMALLEST_CELL / CELL:.2f}, got {scale}")
    if not speed > 0:
        raise ValueError(f"speed must be more than 0 steps a second, got {speed}")
    fps = FRAMES_PER_SECOND if policy is None else speed
    film_fps = FILM_FRAMES_PER_SECOND if policy is None else speed
    made = isinstance(env, str)
    game_env = gym.make(env, max_episode_steps=-1 if policy is None else None) if isinstance(env, str) else env
    try:
        if difficulty is not None:
            _tetris_of(game_env).set_difficulty(difficulty)
        if policy is None and game_env.action_space != gym.spaces.Discrete(NUM_ACTIONS):
            raise ValueError(f"the keyboard plays environments with the {NUM_ACTIONS} direct actions, got {env}")
        with FilmWriter(record, film_fps) if record is not None else nullcontext() as film:
            screen = _Screen(scale, fps, window, film)
            try:
                if policy is None:
                    return _play_by_hand(KeyboardGame(game_env, seed, das, arr), screen, games)
                return _play_policy(policy, game_env, screen, seed, games, speed)
            finally:
                screen.close()
    finally:
        if made:
            game_env.close()


def _play_by_hand(game: KeyboardGame, screen: _Screen, games: int | None) -> list[dict[str, Any]]:
    pygame = import_pygame()
    keys = {
        pygame.K_LEFT: MOVE_LEFT,
        pygame.K_RIGHT: MOVE_RIGHT,
        pygame.K_DOWN: SOFT_DROP,
        pygame.K_UP: ROTATE_CLOCKWISE,
        pygame.K_x: ROTATE_CLOCKWISE,
        pygame.K_z: ROTATE_COUNTERCLOCKWISE,
        pygame.K_LCTRL: ROTATE_COUNTERCLOCKWISE,
        pygame.K_RCTRL: ROTATE_COUNTERCLOCKWISE,
        pygame.K_SPACE: HARD_DROP,
        pygame.K_c: HOLD_PIECE,
        pygame.K_LSHIFT: HOLD_PIECE,
        pygame.K_RSHIFT: HOLD_PIECE,
    }
    now = time.perf_counter()
    game.restart(now)
    filmed = 0.0  # seconds of the film
    shot = 0  # frames of the film
    screen.show(game.scene)
    result_left = RESULT_SECONDS
    while result_left > 0:
        before, now = now, time.perf_counter()
        for event in screen.events():
            command = _command(event)
            if command == "quit":
                game.end()
                return game.results
            if command == "restart":
                game.restart(now)
            elif command == "pause" or (event.type == pygame.WINDOWFOCUSLOST and not game.paused):
                game.pause(now)
            elif event.type == pygame.KEYDOWN and event.key in keys:
                game.press(keys[event.key], now)
            elif event.type == pygame.KEYUP and event.key in keys:
                game.release(keys[event.key], now)
        game.advance(now)
        scene = game.scene
        veil: tuple[str, ...] = PAUSED if game.paused else ()
        if game.over:
            veil = ("GAME OVER", f"{scene.score:,} points", f"{scene.lines:,} lines", "R: play again")
        screen.show(scene, veil, game.callout(now))
        if not game.paused:
            filmed += now - before
            due = int(filmed * FILM_FRAMES_PER_SECOND)
            screen.shoot(scene, veil, game.callout(now), repeat=due - shot)
            shot = due
        if game.over and games is not None and len(game.results) >= games:
            result_left -= now - before
    return game.results


def _play_policy(
    policy: Policy, env: gym.Env, screen: _Screen, seed: int | None, games: int | None, speed: float
) -> list[dict[str, Any]]:
    tetris = _tetris_of(env)
    results: list[dict[str, Any]] = []
    while games is None or len(results) < games:
        observation, info = env.reset(seed=seed)
        seed = None
        if hasattr(policy, "reset"):
            policy.reset()
        done, callout, callout_left = False, "", 0
        left = round(RESULT_SECONDS * speed)  # pictures of the end
        command = ""
        while left:
            scene = tetris.scene()
            callout = callout if callout_left > 0 else ""
            callout_left -= 1
            screen.show(scene, callout=callout)
            screen.shoot(scene, callout=callout)
            command = _wait(screen, scene)
            if command:
                break
            if done:
                left -= 1
                continue
            action = policy(observation)
            observation, _, terminated, truncated, info = env.step(np.asarray(action).item())
            done = terminated or truncated
            if info["lines_cleared"]:
                callout, callout_left = CALLOUTS[info["lines_cleared"] - 1], round(CALLOUT_SECONDS * speed)
        if done or info["pieces_placed"]:
            results.append(info)
        if command == "quit":
            break
    return results


def _wait(screen: _Screen, scene: Scene) -> str:
    """:return: "quit" or "restart" if that was pressed; a pause is sat out here"""
    paused = False
    while True:
        for event in screen.events():
            command = _command(event)
            if command == "pause":
                paused = not paused
            elif command:
                return command
        if not paused:
            return ""
        screen.show(scene, PAUSED)


def _command(event: Any) -> str:
    pygame = import_pygame()
    if event.type == pygame.QUIT:
        return "quit"
    if event.type != pygame.KEYDOWN:
        return ""
    return {pygame.K_ESCAPE: "quit", pygame.K_p: "pause", pygame.K_r: "restart"}.get(event.key, "")
