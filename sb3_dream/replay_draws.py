"""Which rows of a replay buffer are drawn, and how often."""

from __future__ import annotations

import numpy as np

from sb3_dream.replay_rings import Rings
from sb3_dream.replay_rows import FIRST, TERMINATED, Rows

_CANDIDATES = 8  # looked at for each row that is not to be just any one, to choose from


def draw_sequences(
    rng: np.random.Generator,
    rings: Rings,
    rows: Rows,
    count: int,
    length: int,
    reward_fraction: float,
    terminal_fraction: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    See :meth:`~sb3_dream.replay.SequenceReplayBuffer.sample_sequences`.

    :param rng: source of randomness
    :param rings: where rows lie; not empty
    :param rows: what they hold
    :param count: number of sequences
    :param length: rows in each, at most
    :param reward_fraction: probability with which a sequence is drawn around a reward
    :param terminal_fraction: probability with which one of the others is the end of an episode
    :return: of each sequence its ring, the absolute number of its first row and its number of rows, ``(count,)``
    """
    of, drawn = rings.draw(rng, count)
    if terminal_fraction > 0:
        chosen = np.flatnonzero(rng.random(count) < terminal_fraction)
        found, last = draw_edges(rng, rings, rows, TERMINATED, len(chosen))
        of[chosen[: len(last)]], drawn[chosen[: len(last)]] = found, last
    begins = drawn
    if reward_fraction > 0:
        chosen = np.flatnonzero(rng.random(count) < reward_fraction)
        found, at = draw_rewarded(rng, rings, rows, len(chosen))
        if len(at):
            of[chosen], drawn[chosen] = found, at
            begins = drawn.copy()
            # never at the first place: the action that earned it would be missing
            begins[chosen] -= rng.integers(min(1, length - 1), length, size=len(chosen))
    starts, ends = rings.bounds(of, drawn)
    begins = np.maximum(np.minimum(begins, ends - length), starts)
    return of, begins, np.minimum(ends - begins, length)


def draw_edges(
    rng: np.random.Generator, rings: Rings, rows: Rows, flag: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    Draw first or terminal rows of episodes, each stored one with about the same probability.

    :param rng: source of randomness
    :param rings: where rows lie; not empty
    :param rows: what they hold
    :param flag: ``FIRST`` or ``TERMINATED``
    :param count: number of rows
    :return: rings and absolute numbers, ``(count,)``; none if no episode of the rows that were looked at has one
    """
    of, drawn = rings.draw(rng, _CANDIDATES * count)
    starts, ends = rings.bounds(of, drawn)
    edges = starts if flag == FIRST else ends - 1
    # a row is drawn the more often the longer its episode is
    odds = rows.has_flag(rings.slots(of, edges), flag) / (ends - starts)
    if not odds.any():
        return of[:0], edges[:0]
    chosen = rng.choice(len(edges), size=count, p=odds / odds.sum())
    return of[chosen], edges[chosen]


def draw_rewarded(rng: np.random.Generator, rings: Rings, rows: Rows, count: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Draw rows whose reward is not zero, of rare sizes more often than those occur (:func:`draw_balanced`).

    :param rng: source of randomness
    :param rings: where rows lie; not empty
    :param rows: what they hold
    :param count: number of rows
    :return: rings and absolute numbers, ``(count,)``; none where every reward is zero
    """
    candidates = rows.rewarded.draw(rng, _CANDIDATES * count, rows.reward.data)
    if not candidates.size:
        return candidates, candidates
    return rings.locate(candidates[draw_balanced(rng, rows.reward.data[candidates], count)])


def draw_before_rewards(
    rng: np.random.Generator, rings: Rings, rows: Rows, count: int, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    Draw rows at most ``steps`` steps before one with a reward, of its episode, each distance with the same probability.

    :param rng: source of randomness
    :param rings: where rows lie; not empty
    :param rows: what they hold
    :param count: number of rows
    :param steps: at least 1
    :return: rings and absolute numbers, fewer than ``count`` where what was before a reward is no longer stored; none
        where every reward is zero
    """
    of, drawn = draw_rewarded(rng, rings, rows, count)
    starts, _ = rings.bounds(of, drawn)
    stored = starts < drawn  # of the oldest row in a ring, nothing that was before it is
    of, starts, drawn = of[stored], starts[stored], drawn[stored]
    return of, rng.integers(np.maximum(starts, drawn - steps), drawn)


def draw_balanced(rng: np.random.Generator, values: np.ndarray, count: int) -> np.ndarray:
    """
    Draw so that rare values come up more often than they occur: values are put into classes a quarter of a symlog unit
    wide, and a class is as probable as the square root of its size, half way between its share and an equal chance.

    :param rng: source of randomness
    :param values: values to choose from, shape ``(k,)``
    :param count: number of draws
    :return: indices into ``values``, shape ``(count,)``, with replacement
    """
    classes = np.round(4 * np.sign(values) * np.log1p(np.abs(values)))
    _, member, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    ends = np.cumsum(1 / np.sqrt(sizes[member]))
    return np.searchsorted(ends, rng.random(count) * ends[-1], side="right").clip(max=len(values) - 1)
