"""A second implementation of the rules of ``tetris_gym``: slow, obvious, and independent of the engine.

The board is a list of lists, a piece is a list of cells, and nothing is clever. The tests play this game and the
environment side by side; where they differ, one of them breaks the rules. Nothing here is imported from
``tetris_gym``.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Any

import numpy as np

WIDTH, HEIGHT, HIDDEN = 10, 20, 4
I, O, T, S, Z, J, L = range(7)  # noqa: E741
LEFT, RIGHT, SOFT_DROP, CLOCKWISE, COUNTER_CLOCKWISE, HARD_DROP, HOLD, NO_OP = range(8)
NUM_ACTIONS = {"direct": 8, "placement": HEIGHT * WIDTH * 4}

DRAWINGS = {
    I: ("....", "####", "....", "...."),
    O: ("##", "##"),
    T: (".#.", "###", "..."),
    S: (".##", "##.", "..."),
    Z: ("##.", ".##", "..."),
    J: ("#..", "###", "..."),
    L: ("..#", "###", "..."),
}

# The published wall-kick tables of the Super Rotation System: (from, to) -> five (x, y), x to the right and y up.
KICKS_JLSTZ = {
    (0, 1): ((0, 0), (-1, 0), (-1, +1), (0, -2), (-1, -2)),
    (1, 0): ((0, 0), (+1, 0), (+1, -1), (0, +2), (+1, +2)),
    (1, 2): ((0, 0), (+1, 0), (+1, -1), (0, +2), (+1, +2)),
    (2, 1): ((0, 0), (-1, 0), (-1, +1), (0, -2), (-1, -2)),
    (2, 3): ((0, 0), (+1, 0), (+1, +1), (0, -2), (+1, -2)),
    (3, 2): ((0, 0), (-1, 0), (-1, -1), (0, +2), (-1, +2)),
    (3, 0): ((0, 0), (-1, 0), (-1, -1), (0, +2), (-1, +2)),
    (0, 3): ((0, 0), (+1, 0), (+1, +1), (0, -2), (+1, -2)),
}
KICKS_I = {
    (0, 1): ((0, 0), (-2, 0), (+1, 0), (-2, -1), (+1, +2)),
    (1, 0): ((0, 0), (+2, 0), (-1, 0), (+2, +1), (-1, -2)),
    (1, 2): ((0, 0), (-1, 0), (+2, 0), (-1, +2), (+2, -1)),
    (2, 1): ((0, 0), (+1, 0), (-2, 0), (+1, -2), (-2, +1)),
    (2, 3): ((0, 0), (+2, 0), (-1, 0), (+2, +1), (-1, -2)),
    (3, 2): ((0, 0), (-2, 0), (+1, 0), (-2, -1), (+1, +2)),
    (3, 0): ((0, 0), (+1, 0), (-2, 0), (+1, -2), (-2, +1)),
    (0, 3): ((0, 0), (-1, 0), (+2, 0), (-1, +2), (+2, -1)),
}


def turned(drawing: tuple[str, ...]) -> tuple[str, ...]:
    """A clockwise turn: the bottom row becomes the left column."""
    return tuple("".join(column) for column in zip(*reversed(drawing), strict=True))


def cells_of(drawing: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((y, x) for y, row in enumerate(drawing) for x, cell in enumerate(row) if cell == "#")


def all_turns(drawing: tuple[str, ...]) -> tuple[tuple[tuple[int, int], ...], ...]:
    turns = [drawing]
    for _ in range(3):
        turns.append(turned(turns[-1]))
    return tuple(cells_of(turn) for turn in turns)


# CELLS[piece][rotation]: the four (row, column) of the cells inside the bounding box.
CELLS = {piece: all_turns(drawing) for piece, drawing in DRAWINGS.items()}
Pose = tuple[int, int, int]  # rotation, row of the box, column of the box


def kicks(piece: int, start: int, end: int) -> tuple[tuple[int, int], ...]:
    if piece == O:
        return ((0, 0),)
    return (KICKS_I if piece == I else KICKS_JLSTZ)[start, end]


def spawn_pose(piece: int) -> Pose:
    return 0, (-1 if piece == I else 0), (4 if piece == O else 3)


class SplitMix64:
    """Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators"."""

    def __init__(self, state: int):
        self.state = state

    def next(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    def below(self, n: int) -> int:
        return ((self.next() >> 32) * n) >> 32


class Board:
    """The stack: 24 rows of 10, addressed by visible row (-4 to 19) and column."""

    def __init__(self, rows: list[list[int]] | None = None):
        self.rows = [[0] * WIDTH for _ in range(HIDDEN + HEIGHT)] if rows is None else rows
        self.known: dict[tuple[int, Pose], bool] = {}  # answers of fits(), until the stack changes

    def fits(self, piece: int, pose: Pose) -> bool:
        if (piece, pose) not in self.known:
            self.known[piece, pose] = self.all_free(piece, pose)
        return self.known[piece, pose]

    def all_free(self, piece: int, pose: Pose) -> bool:
        rotation, top, left = pose
        for dy, dx in CELLS[piece][rotation]:
            y, x = top + dy, left + dx
            if not (-HIDDEN <= y < HEIGHT and 0 <= x < WIDTH) or self.rows[y + HIDDEN][x]:
                return False
        return True

    def put(self, piece: int, pose: Pose) -> None:
        rotation, y, x = pose
        for dy, dx in CELLS[piece][rotation]:
            self.rows[y + dy + HIDDEN][x + dx] = 1
        self.known.clear()

    def clear_lines(self) -> int:
        kept = [row for row in self.rows if not all(row)]
        lines = len(self.rows) - len(kept)
        self.rows = [[0] * WIDTH for _ in range(lines)] + kept
        self.known.clear()
        return lines

    def heights(self) -> list[int]:
        return [
            next((len(self.rows) - y for y, row in enumerate(self.rows) if row[x]), 0)
            for x in range(WIDTH)
        ]  # fmt: skip

    def statistics(self) -> dict[str, int]:
        heights = self.heights()
        return {
            "aggregate_height": sum(heights),
            "holes": sum(heights) - sum(map(sum, self.rows)),
            "bumpiness": sum(abs(a - b) for a, b in pairwise(heights)),
            "max_height": max(heights),
        }

    def moved(self, piece: int, pose: Pose, dy: int, dx: int) -> Pose | None:
        rotation, y, x = pose
        target = (rotation, y + dy, x + dx)
        return target if self.fits(piece, target) else None

    def rotated(self, piece: int, pose: Pose, quarters: int) -> Pose | None:
        rotation, y, x = pose
        end = (rotation + quarters) % 4
        for right, up in kicks(piece, rotation, end):
            target = (end, y - up, x + right)
            if self.fits(piece, target):
                return target
        return None

    def dropped(self, piece: int, pose: Pose) -> Pose:
        while (lower := self.moved(piece, pose, 1, 0)) is not None:
            pose = lower
        return pose

    def after(self, piece: int, pose: Pose, action: int) -> Pose | None:
        """Where a move, a turn or a fall by one row leads; None if it is impossible."""
        match action:
            case 0 | 1:
                return self.moved(piece, pose, 0, (-1, +1)[action])
            case 2:
                return self.moved(piece, pose, +1, 0)
            case 3 | 4:
                return self.rotated(piece, pose, (+1, -1)[action - CLOCKWISE])
        return None

    def reachable(self, piece: int, start: Pose) -> dict[Pose, tuple[Pose, int] | None]:
        """Every pose that primitive actions reach from ``start``, with the pose and the action that led there."""
        origins: dict[Pose, tuple[Pose, int] | None] = {start: None}
        queue = deque([start])
        while queue:
            pose = queue.popleft()
            for action in (LEFT, RIGHT, SOFT_DROP, CLOCKWISE, COUNTER_CLOCKWISE):
                target = self.after(piece, pose, action)
                if target is not None and target not in origins:
                    origins[target] = pose, action
                    queue.append(target)
        return origins

    def placements(self, piece: int, start: Pose) -> dict[int, Pose]:
        """Placement action -> pose, for every reachable pose that rests and lies in the visible field."""
        placements = {}
        for pose in self.reachable(piece, start):
            top, left = corner(piece, pose)
            if top >= 0 and self.moved(piece, pose, 1, 0) is None:
                placements[top * 4 * WIDTH + left * 4 + pose[0]] = pose
        return placements


def corner(piece: int, pose: Pose) -> tuple[int, int]:
    """Row and column of the top-left corner of the rectangle around the cells."""
    rotation, y, x = pose
    cells = CELLS[piece][rotation]
    return y + min(dy for dy, _ in cells), x + min(dx for _, dx in cells)


def covered(piece: int, pose: Pose) -> frozenset[tuple[int, int]]:
    rotation, y, x = pose
    return frozenset((y + dy, x + dx) for dy, dx in CELLS[piece][rotation])


class ReferenceTetris:
    """One game with the interface of the environment: ``reset``, ``step`` and ``action_masks``."""

    def __init__(
        self,
        action_mode: str = "direct",
        reward_mode: str = "standard",
        difficulty: int = 0,
        gravity_interval: int | None = None,
        max_episode_steps: int | None = None,
    ):
        self.action_mode = action_mode
        self.reward_mode = reward_mode
        self.difficulty = difficulty
        self.gravity_argument = gravity_interval
        self.max_episode_steps = max_episode_steps
        self.generator: np.random.Generator | None = None

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        if seed is not None or self.generator is None:
            self.generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        self.random = SplitMix64(int(self.generator.integers(0, 2**64, dtype=np.uint64)))
        self.gravity_interval = self.gravity_argument or max(1, 5 - self.difficulty // 2)
        self.board = Board()
        for row in range(self.difficulty):
            gap = self.random.below(WIDTH)
            self.board.rows[-1 - row] = [int(x != gap) for x in range(WIDTH)]
        self.bag: list[int] = []
        self.hold: int | None = None
        self.hold_used = False
        self.steps = self.total_lines = self.pieces_placed = self.score = 0
        self.over = False
        self.statistics = self.board.statistics()
        self.current: int | None = self.draw()
        self.next: int | None = self.draw()
        self.pose = spawn_pose(self.current)
        self.found_placements: dict[int, Pose] | None = None
        self.begin_step()
        return self.observation(), self.info()

    def draw(self) -> int:
        if not self.bag:
            self.bag = list(range(7))
            for i in range(6, 0, -1):
                j = self.random.below(i + 1)
                self.bag[i], self.bag[j] = self.bag[j], self.bag[i]
        return self.bag.pop(0)

    def begin_step(self) -> None:
        self.lines = 0
        self.placed = False
        self.invalid = False

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert not self.over
        assert 0 <= action < NUM_ACTIONS[self.action_mode]
        self.begin_step()
        self.steps += 1
        if self.action_mode == "direct":
            self.play_direct(action)
            if self.steps % self.gravity_interval == 0 and not self.placed and not self.over:
                self.fall()
        else:
            self.play_placement(action)
        truncated = self.max_episode_steps is not None and self.steps >= self.max_episode_steps
        return self.observation(), self.reward(), self.over, truncated, self.info()

    def play_direct(self, action: int) -> None:
        if action == SOFT_DROP:
            fallen = self.fall()
            self.score += fallen
        elif action == HARD_DROP:
            landed = self.board.dropped(self.current, self.pose)
            self.score += 2 * (landed[1] - self.pose[1])
            self.pose = landed
            self.lock()
        elif action == HOLD:
            self.swap_with_hold()
        else:
            self.pose = self.board.after(self.current, self.pose, action) or self.pose

    def fall(self) -> int:
        """One row down, or a lock; returns the number of rows."""
        lower = self.board.moved(self.current, self.pose, 1, 0)
        if lower is None:
            self.lock()
            return 0
        self.pose = lower
        return 1

    def swap_with_hold(self) -> None:
        if self.hold_used:
            return
        self.hold_used = True
        if self.hold is None:
            self.hold = self.current
            self.spawn_next()
        else:
            held, self.hold = self.hold, self.current
            self.spawn(held)

    def play_placement(self, action: int) -> None:
        placements = self.placements()
        if action in placements:
            self.pose = placements[action]
        else:
            self.invalid = True
            self.pose = self.fallback_pose(action)
        self.lock()

    def placements(self) -> dict[int, Pose]:
        """``Board.placements`` of the current piece, searched once per piece."""
        if self.found_placements is None:
            self.found_placements = self.board.placements(self.current, self.pose)
        return self.found_placements

    def fallback_pose(self, action: int) -> Pose:
        rotation, column = action % 4, action // 4 % WIDTH
        _, y, _ = spawn_pose(self.current)
        columns = [dx for _, dx in CELLS[self.current][rotation]]
        width = max(columns) - min(columns) + 1
        wanted = (rotation, y, min(column, WIDTH - width) - min(columns))
        start = wanted if self.board.fits(self.current, wanted) else self.pose
        return self.board.dropped(self.current, start)

    def lock(self) -> None:
        self.board.put(self.current, self.pose)
        self.lines = self.board.clear_lines()
        self.before, self.statistics = self.statistics, self.board.statistics()
        self.score += (0, 100, 300, 500, 800)[self.lines] * (self.level + 1)
        self.total_lines += self.lines
        self.placed = True
        self.pieces_placed += 1
        self.hold_used = False
        if any(any(row) for row in self.board.rows[:HIDDEN]):
            self.over = True
            self.current = self.next = None
        else:
            self.spawn_next()

    def spawn_next(self) -> None:
        following = self.next
        self.next = self.draw()
        self.spawn(following)

    def spawn(self, piece: int) -> None:
        self.current, self.pose = piece, spawn_pose(piece)
        self.found_placements = None
        self.over = not self.board.fits(piece, self.pose)

    @property
    def level(self) -> int:
        return self.total_lines // 10

    def reward(self) -> float:
        multiple = min(self.level, 3) + 1
        if self.reward_mode == "lines_only":
            return float(multiple * (0, 1, 3, 5, 8)[self.lines])
        reward = 0.0
        if self.placed:
            reward += 2 + multiple * (0, 3, 5, 8, 12)[self.lines]
            for name, weight in (("aggregate_height", 0.05), ("holes", 0.25), ("bumpiness", 0.1)):
                reward -= weight * (self.statistics[name] - self.before[name])
        if self.over:
            reward -= 10
        return min(max(reward, -200.0), 50.0)

    def field(self) -> list[list[int]]:
        """The visible stack and the falling piece."""
        field = [row.copy() for row in self.board.rows[HIDDEN:]]
        if self.current is not None:
            for y, x in covered(self.current, self.pose):
                if y >= 0:
                    field[y][x] = 1
        return field

    def observation(self) -> np.ndarray:
        bits = [(piece or 0) >> bit & 1 for piece in (self.current, self.next) for bit in range(3)]
        return np.array([cell for row in self.field() for cell in row] + bits, dtype=np.float32)

    def info(self) -> dict[str, Any]:
        info: dict[str, Any] = {
            "lines_cleared": self.lines,
            "piece_placed": self.placed,
            "total_lines": self.total_lines,
            "pieces_placed": self.pieces_placed,
            "level": self.level,
            "score": self.score,
            "game_over": self.over,
            **self.statistics,
        }
        if self.action_mode == "placement":
            info["action_mask"] = self.action_masks()
            info["invalid_action"] = self.invalid
        return info

    def action_masks(self) -> np.ndarray:
        mask = np.zeros(NUM_ACTIONS[self.action_mode], dtype=bool)
        if self.over:
            mask[:] = True
        elif self.action_mode == "direct":
            for action in (LEFT, RIGHT, CLOCKWISE, COUNTER_CLOCKWISE):
                mask[action] = self.board.after(self.current, self.pose, action) is not None
            mask[[SOFT_DROP, HARD_DROP, NO_OP]] = True
            mask[HOLD] = not self.hold_used
        else:
            smallest: dict[frozenset[tuple[int, int]], int] = {}
            for action, pose in self.placements().items():
                cells = covered(self.current, pose)
                smallest[cells] = min(action, smallest.get(cells, action))
            mask[list(smallest.values())] = True
            if not smallest:
                mask[:] = True
        return mask
