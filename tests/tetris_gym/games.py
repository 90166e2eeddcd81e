"""Games from hand-built positions, played by the reference or by the environment behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

import tetris_gym  # noqa: F401  (registers the environments)
from tests.tetris_gym.reference import HEIGHT, HIDDEN, WIDTH, Board, O, Pose, ReferenceTetris, covered, spawn_pose
from tetris_gym import engine, layout

ENV_IDS = {"direct": "TetrisDirect-v0", "placement": "TetrisPlacement-v0"}
NEVER = 10**6  #: a gravity interval


@dataclass(frozen=True)
class Position:
    """
    A moment of a game.

    :param stack: the lowest rows of the stack from top to bottom, "#" where there is a cell
    :param piece: the falling piece's id
    :param pose: its rotation, box row and box column; None where it spawns
    :param next: the next piece's id
    :param hold: the held piece's id, or None
    :param hold_used: whether the falling piece has been held
    :param total_lines: lines cleared so far
    """

    stack: tuple[str, ...]
    piece: int
    pose: Pose | None = None
    next: int = O
    hold: int | None = None
    hold_used: bool = False
    total_lines: int = 0

    def rows(self) -> list[list[int]]:
        """The field as the reference keeps it."""
        empty = ("." * WIDTH,) * (HIDDEN + HEIGHT - len(self.stack))
        return [[int(cell == "#") for cell in row] for row in (*empty, *self.stack)]


class Game(ABC):
    """One game; ``reward``, ``over`` and ``info`` are those of its last step.

    :param position: where it begins
    :param mode: "direct" or "placement"
    :param kwargs: keyword arguments of the environment
    """

    def __init__(self, position: Position, mode: str = "direct", **kwargs: Any):
        self.mode = mode
        self.game = self.begin(position, mode, {"gravity_interval": NEVER, **kwargs})
        self.observation = np.zeros(0)
        self.reward = 0.0
        self.over = False
        self.info: dict[str, Any] = {}

    @abstractmethod
    def begin(self, position: Position, mode: str, kwargs: dict[str, Any]) -> Any:
        """The game at its beginning."""

    def act(self, *actions: int) -> Game:
        """Play some actions; returns itself."""
        for action in actions:
            self.observation, self.reward, self.over, _, self.info = self.game.step(action)
        return self

    @property
    def field(self) -> list[str]:
        """The stack and the falling piece as the last observation shows them: 20 rows from top to bottom."""
        return ["".join(".#"[int(cell)] for cell in row) for row in self.observation[:200].reshape(HEIGHT, WIDTH)]

    @property
    @abstractmethod
    def mask(self) -> np.ndarray:
        """The action mask."""

    @property
    @abstractmethod
    def pose(self) -> Pose:
        """Rotation, box row and box column of the falling piece."""

    @property
    @abstractmethod
    def pieces(self) -> tuple[int | None, int | None, int | None]:
        """The current, the next and the held piece."""

    @property
    @abstractmethod
    def stack(self) -> list[str]:
        """The rows of the stack that are not empty, from top to bottom."""


def texts(rows: Any) -> list[str]:
    """Rows as strings, without the empty ones."""
    return ["".join(".#"[int(bool(cell))] for cell in row) for row in rows if any(row)]


class ReferenceGame(Game):
    """Played by the reference."""

    game: ReferenceTetris

    def begin(self, position: Position, mode: str, kwargs: dict[str, Any]) -> ReferenceTetris:
        game = ReferenceTetris(mode, **kwargs)
        game.reset(seed=0)
        place(game, position)
        return game

    @property
    def mask(self) -> np.ndarray:
        return self.game.action_masks()

    @property
    def pose(self) -> Pose:
        return self.game.pose

    @property
    def pieces(self) -> tuple[int | None, int | None, int | None]:
        return self.game.current, self.game.next, self.game.hold

    @property
    def stack(self) -> list[str]:
        return texts(self.game.board.rows)


class EnvGame(Game):
    """Played by the environment."""

    game: gym.Env

    def begin(self, position: Position, mode: str, kwargs: dict[str, Any]) -> gym.Env:
        env = gym.make(ENV_IDS[mode], **kwargs)
        env.reset(seed=0)
        reference = ReferenceTetris(mode, **kwargs)
        reference.reset(seed=0)
        place(reference, position)
        copy_into(env, reference)
        return env

    @property
    def state(self) -> np.ndarray:
        return self.game.unwrapped.get_state().game

    @property
    def mask(self) -> np.ndarray:
        return self.game.unwrapped.action_masks()

    @property
    def pose(self) -> Pose:
        return tuple(int(self.state[column]) for column in (layout.ROTATION, layout.Y, layout.X))

    @property
    def pieces(self) -> tuple[int | None, int | None, int | None]:
        pieces = (int(self.state[column]) for column in (layout.PIECE, layout.NEXT, layout.HOLD))
        return tuple(None if piece < 0 else piece for piece in pieces)

    @property
    def stack(self) -> list[str]:
        return texts(layout.read_field(self.state))


def place(game: ReferenceTetris, position: Position) -> None:
    """Bring a reference game that has been reset into a position."""
    game.board = Board(position.rows())
    game.statistics = game.board.statistics()
    game.current, game.next, game.hold = position.piece, position.next, position.hold
    game.pose = position.pose or spawn_pose(position.piece)
    assert game.board.fits(game.current, game.pose), f"Impossible position: {sorted(covered(game.current, game.pose))}"
    game.hold_used = position.hold_used
    game.total_lines = position.total_lines
    game.found_placements = None


def copy_into(env: gym.Env, game: ReferenceTetris) -> None:
    """Bring an environment whose game runs into the position of a reference game, random stream included."""
    snapshot = env.unwrapped.get_state()
    state = snapshot.game
    engine.write_field(state, np.array(game.board.rows, dtype=np.uint8))
    state[layout.PIECE], state[layout.NEXT] = game.current, game.next
    state[layout.HOLD] = -1 if game.hold is None else game.hold
    state[[layout.ROTATION, layout.Y, layout.X]] = game.pose
    state[layout.HOLD_USED] = game.hold_used
    state[layout.BAG] = sum(piece << 4 * i for i, piece in enumerate(game.bag))
    state[layout.BAG_LEFT] = len(game.bag)
    state[layout.RANDOM] = np.uint64(game.random.state).astype(np.int64)
    state[layout.STEPS] = game.steps
    state[layout.GRAVITY_LEFT] = game.gravity_interval - game.steps % game.gravity_interval
    state[layout.TOTAL_LINES], state[layout.LEVEL] = game.total_lines, game.level
    state[layout.PIECES_PLACED], state[layout.SCORE] = game.pieces_placed, game.score
    env.unwrapped.set_state(snapshot)
