"""Timing of held keys, as in every modern Tetris: a delayed auto shift and an auto repeat. Knows no pygame."""

from __future__ import annotations

from collections.abc import Iterable


class AutoRepeat:
    """
    Turns keys that are pressed and released into actions.

    A press acts at once. A key that stays down acts again after ``delay`` (the delayed auto shift, DAS) and then
    every ``interval`` (the auto repeat rate, ARR). Among keys that exclude each other, left and right, the one
    pressed last wins; when it is let go, one that is still down starts over with its delay.

    :param delay: seconds from a press to its first repeat
    :param interval: seconds between repeats
    :param exclusive: actions of which only one acts at a time
    :raises ValueError: when the delay is negative or the interval is under a millisecond
    """

    def __init__(self, delay: float, interval: float, exclusive: Iterable[int] = ()) -> None:
        if delay < 0:
            raise ValueError(f"the delay must be at least 0 seconds, got {delay}")
        if interval < 0.001:
            raise ValueError(f"the interval must be at least 0.001 seconds, got {interval}")
        self.delay = delay
        self.interval = interval
        self.exclusive = frozenset(exclusive)
        self._down: dict[int, float] = {}  # action -> when it repeats next; the order is that of the presses

    def press(self, action: int, now: float) -> None:
        """
        A key goes down; the caller performs the action itself, once.

        :param now: the time in seconds, on any clock that does not run backwards
        """
        self._down.pop(action, None)
        self._down[action] = now + self.delay

    def release(self, action: int, now: float) -> None:
        """A key goes up. One that is not down, for instance after :meth:`clear`, is no error."""
        winner = self._winner()
        self._down.pop(action, None)
        if action == winner and (other := self._winner()) is not None:
            self._down[other] = now + self.delay

    def clear(self) -> None:
        """Forget all keys that are down: they must be pressed again."""
        self._down.clear()

    def due(self, now: float) -> list[int]:
        """:return: the repeats that fell due since the last call, in the order of their times"""
        repeats: list[tuple[float, int]] = []
        winner = self._winner()
        for action, at in self._down.items():
            if action in self.exclusive and action != winner:
                continue
            while at <= now:
                repeats.append((at, action))
                at += self.interval
            self._down[action] = at
        return [action for _, action in sorted(repeats)]

    def _winner(self) -> int | None:
        """:return: of the keys that exclude each other, the one that acts"""
        return next((action for action in reversed(self._down) if action in self.exclusive), None)
