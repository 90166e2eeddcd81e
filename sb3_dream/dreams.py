"""Dreams that go on from one update of the policy to the next.

Dreamer begins every rollout at a replayed state, a few steps from where an older policy has been. A policy that would
do better from the beginning on never sees where that leads to: most replayed states of a game, for instance, are those
of games that were already spoilt. A dream that begins where episodes begin, and goes on, shows the policy the states
that it would get itself into, as on-policy learning in the environment does. Its price is the model's error, which
grows with the length of the dream.
"""

from __future__ import annotations

import numpy as np
import torch as th

from sb3_dream.imagination import Rollout
from sb3_dream.nn.transfers import Later, to_device
from sb3_dream.world_models.base import State


class Dreams:
    """
    :param number: of dreams, of which each update takes one rollout further
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.state: State | None = None  # of the K dreams that go on
        self.age = th.zeros(0)  # (K,) their steps so far
        self._rollout: tuple[Later, th.Tensor] | None = (
            None  # (K,) whose last one did not end them; who may have another
        )

    @property
    def missing(self) -> int:
        """How many new dreams the next update needs."""
        self._wake()
        return self.number - len(self.age)

    def join(self, beginnings: list[State]) -> State:
        """
        :param beginnings: states of the new dreams, at least one if none goes on
        :return: the states in which all dreams stand now
        """
        self._wake()
        states = beginnings if self.state is None else [self.state, *beginnings]
        joined = State(th.cat([s.memory for s in states]), th.cat([s.percept for s in states]))
        born = len(joined.memory) - len(self.age)
        self.state, self.age = joined, th.cat((self.age, self.age.new_zeros(born)))
        return joined

    def go_on(self, rollout: Rollout, length: float) -> None:
        """
        :param rollout: of all dreams, from the states that :meth:`join` returned; those that end in it are forgotten,
            once a GPU has found out which
        :param length: steps after which a dream is given up, in whole rollouts; none goes on if a rollout is as long
        """
        horizon = rollout.continues.shape[0]
        alive = Later((th.rand_like(rollout.continues) < rollout.continues).all(0))
        self.age = self.age + horizon
        self._rollout = alive, self.age + horizon <= length
        self.state = State(*(part.detach() for part in rollout.last))

    def _wake(self) -> None:
        """Forget the dreams that ended."""
        if self._rollout is None or self.state is None:
            return
        (alive, young), self._rollout = self._rollout, None
        kept = (alive.get() & young).nonzero().squeeze(-1)
        self.age = self.age[kept]
        self.state = State(*(part[to_device(kept, part.device)] for part in self.state))

    def get_state(self) -> dict[str, np.ndarray]:
        """
        :return: what :meth:`set_state` takes
        """
        self._wake()
        parts = {} if self.state is None else {"memory": self.state.memory, "percept": self.state.percept}
        return {name: part.cpu().numpy() for name, part in (parts | {"age": self.age}).items()}

    def set_state(self, state: dict[str, np.ndarray], device: th.device) -> None:
        """
        :param state: from :meth:`get_state`, perhaps of more dreams, of which the first ones go on
        :param device: on which the dreams go on
        """
        self._rollout = None
        state = {name: part[: self.number] for name, part in state.items()}
        self.age = th.as_tensor(state["age"])
        parts = [th.as_tensor(state[name], device=device) for name in ("memory", "percept") if name in state]
        self.state = State(*parts) if parts else None
