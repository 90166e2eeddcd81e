"""Players and boards for the side-by-side games: from careless to good enough to clear hundreds of lines."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from tests.tetris_gym.reference import (
    CLOCKWISE,
    HARD_DROP,
    HIDDEN,
    HOLD,
    NUM_ACTIONS,
    SOFT_DROP,
    WIDTH,
    Board,
    Pose,
    ReferenceTetris,
)


class Player(ABC):
    """Chooses the next action of a game that it may look into.

    :param rng: the player's own randomness
    """

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    @abstractmethod
    def action(self, game: ReferenceTetris) -> int:
        """The next action."""


class RandomPlayer(Player):
    """Any action, reachable or not."""

    def action(self, game: ReferenceTetris) -> int:
        return int(self.rng.integers(NUM_ACTIONS[game.action_mode]))


class MaskedPlayer(Player):
    """Any action that the mask allows."""

    def action(self, game: ReferenceTetris) -> int:
        return int(self.rng.choice(np.flatnonzero(game.action_masks())))


class Stacker(Player):
    """Places each piece where the stack stays lowest, flattest and without holes, tucks and spins included.

    :param rng: the player's own randomness
    :param slip: the chance that an action is any action instead of the planned one
    """

    def __init__(self, rng: np.random.Generator, slip: float = 0.02):
        super().__init__(rng)
        self.slip = slip
        self.target: Pose | None = None
        self.route: dict[Pose, int] = {}
        self.planned_for: tuple[int, int] | None = None

    def action(self, game: ReferenceTetris) -> int:
        if self.rng.random() < self.slip:
            return int(self.rng.integers(NUM_ACTIONS[game.action_mode]))
        if game.action_mode == "placement":
            placements = game.placements()
            return min(placements, key=lambda action: cost(game, placements[action]), default=0)
        piece = (game.pieces_placed, game.current)
        if piece != self.planned_for:
            self.planned_for, self.target = piece, None
            if self.rng.random() < 0.1:
                return HOLD
        if self.target is None or game.pose not in self.route:
            self.find_route(game)
        return self.route[game.pose]

    def find_route(self, game: ReferenceTetris) -> None:
        """The way to the target from here, and a target if there is none or it is out of reach by now."""
        origins = game.board.reachable(game.current, game.pose)
        if self.target not in origins:
            resting = [pose for pose in origins if game.board.after(game.current, pose, SOFT_DROP) is None]
            self.target = min(resting, key=lambda pose: cost(game, pose))
        self.route = {self.target: HARD_DROP}
        origin = origins[self.target]
        while origin is not None:
            pose, action = origin
            self.route[pose] = action
            origin = origins[pose]


class Spinner(Stacker):
    """A stacker that turns its pieces wildly before it places them, at the bottom too, so that kicks happen."""

    def action(self, game: ReferenceTetris) -> int:
        if game.action_mode == "direct" and self.rng.random() < 0.5:
            return CLOCKWISE + int(self.rng.integers(2))
        return super().action(game)


def cost(game: ReferenceTetris, pose: Pose) -> float:
    """What a placement does to the stack; a weighted sum as in Dellacherie's players."""
    board = Board([row.copy() for row in game.board.rows])
    board.put(game.current, pose)
    lines = board.clear_lines()
    after = board.statistics()
    return 0.5 * after["aggregate_height"] + 0.4 * after["holes"] + 0.2 * after["bumpiness"] - 0.8 * lines


def random_rows(rng: np.random.Generator) -> list[list[int]]:
    """A stack of up to 17 rows, none of them full: caves, wells, towers and nearly full rows."""
    rows = [[0] * WIDTH for _ in range(len(Board().rows))]
    density = rng.choice([0.3, 0.6, 0.9, 1.0])
    well = int(rng.integers(WIDTH))
    heights = rng.integers(0, int(rng.integers(1, 18)), WIDTH) if rng.random() < 0.5 else None
    for y in range(len(rows) - int(rng.integers(18)), len(rows)):
        for x in range(WIDTH):
            below_surface = heights is None or len(rows) - y <= heights[x]
            rows[y][x] = int(below_surface and rng.random() < density)
        rows[y][well if rng.random() < 0.8 else int(rng.integers(WIDTH))] = 0
    assert not any(map(any, rows[:HIDDEN]))
    return rows
