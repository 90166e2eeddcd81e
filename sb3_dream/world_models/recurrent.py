"""A world model in observation space: it predicts how the next observation differs from the last one.

``h_t = RNN(h_{t-1}, [o_{t-1}, a_{t-1}])`` and ``p(o_t | h_t, o_{t-1}, a_{t-1})``. There is no decoder to squeeze a
picture through and no KL term; where observations are low-dimensional, or a picture's bits, this learns the
dynamics many times faster than categorical latents of the same size. In imagination the observation is sampled.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_dream.nn.distributions import symlog
from sb3_dream.nn.grid import ColumnLogits, Grid, GridNet, Layout, Parts, together
from sb3_dream.nn.gru import gru
from sb3_dream.nn.moments import RunningMoments
from sb3_dream.nn.sight import Sight
from sb3_dream.spaces import VECTOR, ActionSpec, Observation, ObservationSpec
from sb3_dream.world_models.base import Observed, Outcome, Sequences, State, WorldModel, allowed_actions, masked_mean
from sb3_dream.world_models.observation_head import ObservationHead
from sb3_dream.world_models.outcome_head import OutcomeHead, OutcomeLogits
from sb3_dream.world_models.second_look import SecondLook

_PERIODS = tuple(range(2, 9))
_USUAL = 0.98  # share of the rows that a first look learns from
_FULL_TURN = math.lcm(*_PERIODS)  # 840: small enough to be stored exactly in half precision


class RecurrentWorldModel(WorldModel):
    """
    :param observation_spec: vectors only; images need the ``rssm`` world model
    :param action_spec: what the actions are
    :param mask_size: number of action-mask bits, or None
    :param width: features of a column (of the whole vector, where the observation has no grid)
    :param depth: residual blocks in the predictor; the encoder and the outcome network have half as many
    :param memory: recurrent units a column
    :param cell: ``"gru"`` or ``"lstm"``
    :param reward_bins: bins of a two-hot reward head; 1 for a plain number with a squared loss
    :param clock: tell the networks the step's number in the episode modulo 2, 3, .. 8. Much that is hidden in games
        happens at every k-th step; a recurrent network learns to count to k late, if ever
    :param sight: runs of filled cells in the columns of a binary grid, and cells that its rows lack, that the model
        tells apart, see :class:`Sight`
    :param shared_sight: tell the actor and the critic of them, too: they learn faster, errors of a young model
        included; ``"critic"`` tells the critic alone
    :param second_look: whether predicted binary grids are looked at and corrected, see :class:`SecondLook`
    :param practice: share of the outcomes that are learned from an imagined next observation in place of the real one
        (scheduled sampling, Bengio et al. 2015): in imagination there are no others
    :param matrix_step: root mean square of the change of a matrix's entries in an update, in learning rates, by the
        orthogonal steps of :class:`~sb3_dream.nn.muon.MuonAdam`; 0 for Adam's steps
    :param weight_decay: of the matrices, decoupled (Loshchilov & Hutter 2019), against learning often replayed rows by
        heart. It slows the first thousands of updates
    :param temperature: of imagined bits; 0 takes the more probable value
    :param noise: of imagined continuous values, as a share of what was learned; None for ``temperature``. With 0 they
        are the most probable ones: in most environments continuous values follow from those before, and what is noise
        at first is the model's own ignorance
    :param scaled_changes: tell the outcome network of changes of continuous values in units of their usual size. Many
        rewards are differences, of which values in units of their whole range say next to nothing
    :param heavy_tails: expect that a continuous value sometimes changes quite otherwise than usual, see
        :class:`ObservationHead`: learn less from steps that are far off
    :param find_bits: predict values of a space of floats as bits where their bounds are 0 and 1 and they were never
        anything else, such as contacts
    :param reach: where actions are about cells, the number of columns on either side that are told of one at once
    """

    formerly: ClassVar[dict[str, Any]] = {
        "shared_sight": False,
        "matrix_step": 0.0,
        "scaled_changes": False,
        "heavy_tails": False,
        "find_bits": False,
        "noise": None,
    }
    speeds: th.Tensor

    def __init__(
        self,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        mask_size: int | None = None,
        *,
        width: int = 64,
        depth: int = 4,
        memory: int = 32,
        cell: Literal["gru", "lstm"] = "gru",
        reward_bins: int = 1,
        clock: bool = True,
        sight: int = 2,
        shared_sight: bool | Literal["critic"] = True,
        second_look: bool = True,
        practice: float = 0.5,
        matrix_step: float = 2.0,
        weight_decay: float = 0.0,
        temperature: float = 1.0,
        noise: float | None = 0.0,
        scaled_changes: bool = True,
        heavy_tails: bool = True,
        find_bits: bool = True,
        reach: int = 3,
    ) -> None:
        super().__init__(observation_spec, action_spec, mask_size)
        if observation_spec.image_shapes:
            raise ValueError("the 'recurrent' world model predicts vectors; for images take world_model='rssm'")
        if cell not in ("gru", "lstm"):
            raise ValueError(f"cell is 'gru' or 'lstm', not {cell!r}")
        observed = observation_spec.layout
        columns = observed.columns
        pictures = tuple(g for g in observed.grids if observation_spec.holds_bits(g.start, g.size))
        self.sight = Sight(observed, pictures, sight)
        seen = observed + self.sight.computed
        self.action_layout, self.reach = action_spec.layout, reach
        action = _widened(self.action_layout, reach)
        grids = (Grid(0, 1, columns, depth=memory),) if observed.grids else ()
        remembered = Layout(memory * columns, grids) + Layout(2 * len(_PERIODS) if clock else 0)
        self.observed = observed

        self.hidden, self.columns, self.cell = memory, columns, cell
        self.practice = practice
        self.temperature, self.noise = temperature, temperature if noise is None else noise
        self.matrix_step, self.weight_decay = matrix_step, weight_decay
        self.clock, self.scaled_changes = clock, scaled_changes
        self.memory_size = int(clock) + memory * columns * (2 if cell == "lstm" else 1)
        if shared_sight not in (True, False, "critic"):
            raise ValueError(f"shared_sight is true, false or 'critic', not {shared_sight!r}")
        self.shared_sight = shared_sight
        self.feature_layout = (seen if shared_sight is True else observed) + remembered
        if shared_sight == "critic":
            self.critic_layout = self.feature_layout + self.sight.computed

        self.register_buffer("speeds", 2 * math.pi / th.tensor(_PERIODS), persistent=False)
        continuous = any(segment.kind == "continuous" for segment in observation_spec.segments)
        self.moments = RunningMoments(observed.size) if continuous else None
        self.encoder = GridNet(seen + action, width, max(1, depth // 2))
        self.rnn = (nn.LSTM if cell == "lstm" else nn.GRU)(width, memory)
        self.predictor = GridNet(seen + action + remembered, width, depth)
        self.observation_head = ObservationHead(observation_spec.segments, observed, width, heavy_tails, find_bits)
        looks = second_look and bool(pictures)
        self.second_look = SecondLook(pictures, seen + action, width // 2, max(1, depth // 2)) if looks else None
        change = seen  # the new observation, as it differs from the old one
        self.outcome_head = OutcomeHead(seen + change + action + remembered, width, max(1, depth // 2), reward_bins)
        if mask_size is not None:
            if self.action_layout.grids:  # what is allowed in a cell depends on what is around it
                self.mask_net = GridNet(seen + remembered, width, depth)
                self.mask_head: nn.Module = ColumnLogits(self.action_layout, width)
            else:
                self.mask_net = GridNet(observed + remembered, width, 1)
                self.mask_head = nn.Linear(width * columns, mask_size)

    def parameter_groups(self) -> list[dict[str, Any]]:
        step = {"matrix_step": self.matrix_step}
        if not self.weight_decay:
            return [{"params": list(self.parameters()), **step}]
        matrices = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim < 2]
        decay = {"weight_decay": self.weight_decay, "decoupled_weight_decay": True}
        return [{"params": matrices, **decay, **step}, {"params": others}]

    def perceive(self, memory: th.Tensor, observation: Observation) -> State:
        return State(memory, observation[VECTOR])

    def remember(self, state: State, action: th.Tensor) -> th.Tensor:
        return self._memories(self._see(state.percept), self._acted(action), state.memory)[0]

    def imagine(self, memory: th.Tensor, state: State, action: th.Tensor) -> State:
        seen, acted = self._see(state.percept), self._acted(action)
        return State(memory, self._imagine(self._recall(memory), state, seen, acted))

    def advance(self, state: State, action: th.Tensor) -> tuple[State, Outcome]:
        seen, acted = self._see(state.percept), self._acted(action)
        memory = self._memories(seen, acted, state.memory)[0]
        recalled = self._recall(memory)
        percept = self._imagine(recalled, state, seen, acted)
        outcome = self._outcome(recalled, seen, acted, self._see(percept))
        return State(memory, percept), self.outcome_head.expect(outcome)

    def features(self, state: State) -> th.Tensor:
        hidden = state.memory[:, : self.hidden * self.columns]
        sight = self.sight.vectors(state.percept) if self.shared_sight else []
        shared, critics = (sight, []) if self.shared_sight is True else ([], sight)
        return th.cat((self._scale(state.percept), *shared, hidden, *self._hands(state.memory), *critics), -1)

    def outcome(self, previous: State, action: th.Tensor, state: State) -> Outcome:
        old, new = self._see(previous.percept), self._see(state.percept)
        return self.outcome_head.expect(self._outcome(self._recall(state.memory), old, self._acted(action), new))

    def reconstruct(self, state: State) -> Observation:
        return {VECTOR: state.percept}

    def action_mask(self, state: State) -> th.Tensor | None:
        if self.mask_size is None:
            return None
        return allowed_actions(self._mask_logits(state), self.action_spec.choices)

    def observe(self, sequences: Sequences) -> Observed:
        observation, action = sequences.observation[VECTOR], sequences.action
        batch, length = action.shape[:2]
        if self.moments is not None:
            self.moments.update(symlog(observation).flatten(0, 1), sequences.valid.flatten())

        def before(x: th.Tensor) -> th.Tensor:
            return x[:, :-1].flatten(0, 1)  # (B * (T - 1), ...)

        def after(x: th.Tensor) -> th.Tensor:
            return x[:, 1:].flatten(0, 1)

        old, new = before(observation), after(observation)
        seen, acted = self._see(old), self._acted(before(action))
        memories = self._memories(seen, acted, sequences.memory).transpose(0, 1)  # (B, T - 1, M)
        memory = th.cat((sequences.memory[:, None], memories), 1)
        recalled = self._recall(after(memory))
        valid = after(sequences.valid)
        self.observation_head.update_scale(old, new, valid)
        predicted = self._predict(recalled, old, seen, acted)
        nats = self.observation_head.loss(predicted, old, new)
        outcome = self._outcome(recalled, seen, acted, self._see(self._practise(predicted, old, new)))
        reward, terminated = after(sequences.reward), after(sequences.terminated)
        losses = {
            "observation": masked_mean(nats, valid),
            **self._first_look(predicted, new, valid),
            **self.outcome_head.losses(outcome, reward, terminated, valid, sequences.rare),
        }
        if sequences.mask is not None:
            state = State(memory.flatten(0, 1), observation.flatten(0, 1))
            logits = self._mask_logits(state).unflatten(0, (batch, length))
            mask_loss = F.binary_cross_entropy_with_logits(logits, sequences.mask, reduction="none").sum(-1)
            losses["mask"] = masked_mean(mask_loss, sequences.valid * (1 - sequences.terminated))
        with th.no_grad():
            error = self.outcome_head.expect(outcome).reward - reward
            metrics = {"reward_error": masked_mean(error.abs(), valid)}
        return Observed(memory, observation, losses, metrics)

    def observe_rewarded(self, sequences: Sequences) -> dict[str, th.Tensor]:
        observation, action = sequences.observation[VECTOR], sequences.action
        batch = len(observation)
        seen = self._see(observation[:, :-1].flatten(0, 1))
        acted = self._acted(action[:, :-1].flatten(0, 1))
        recalled = self._recall(self._memories(seen, acted, sequences.memory)[-1])
        old, new = observation[:, -2], observation[:, -1]
        seen, acted = (
            Parts(*(None if part is None else part.unflatten(0, (batch, -1))[:, -1] for part in parts))
            for parts in (seen, acted)
        )
        with th.no_grad():
            predicted = self._predict(recalled, old, seen, acted)
        outcome = self._outcome(recalled, seen, acted, self._see(self._practise(predicted, old, new)))
        reward, terminated, valid = sequences.reward[:, -1], sequences.terminated[:, -1], sequences.valid[:, -1]
        return self.outcome_head.rare_losses(outcome, reward, terminated, valid, sequences.rare)

    def _memories(self, seen: Parts, acted: Parts, first: th.Tensor) -> th.Tensor:
        """
        :param seen: of B * T observations, sequence after sequence
        :param acted: of as many actions
        :param first: (B, M) memory before the first observations
        :return: (T, B, M) memory after each observation and action
        """
        encoded = self.encoder(together(seen, acted)).unflatten(0, (len(first), -1))
        batch, length = encoded.shape[:2]
        encoded = encoded.transpose(0, 1).flatten(1, 2)  # (T, B * J, D)
        ticks = self._tick(first, th.arange(1, length + 1, device=first.device)[:, None, None])  # (T, B, 1)
        carried = self._unpack(first)
        if isinstance(self.rnn, nn.GRU):
            return th.cat((gru(self.rnn, encoded, carried[0]).reshape(length, batch, -1), ticks), -1)
        memories = []  # nn.LSTM returns the cell state of its last step only
        for row, tick in zip(encoded, ticks, strict=True):
            _, carried = self.rnn(row[None], carried)
            memories.append(self._pack(carried, tick))
        return th.stack(memories)

    def _predict(self, recalled: Parts, old: th.Tensor, seen: Parts, acted: Parts) -> dict[str, th.Tensor]:
        """:param seen: of ``old``"""
        predicted = self.observation_head(self.predictor(together(seen, acted, recalled)), old)
        if self.second_look is not None:
            first = predicted["bits"]
            guess = self.second_look.guess(first, old)
            predicted["first_bits"] = first
            predicted["bits"] = self.second_look(first, guess, together(self._see(guess), acted))
        return predicted

    def _first_look(self, predicted: dict[str, th.Tensor], new: th.Tensor, valid: th.Tensor) -> dict[str, th.Tensor]:
        """The first prediction's own loss, without which it would predict nothing that could be looked at.

        The hardest rows are left out: a first look that learns by heart what came of the rare things that need a second
        one leaves the second nothing to learn from.
        """
        if self.second_look is None:
            return {}
        nats = self.second_look.first_loss(predicted["first_bits"], new)
        usual = nats.detach() <= nats.detach().quantile(_USUAL)
        return {"first_look": masked_mean(nats, valid * usual)}

    def _practise(self, predicted: dict[str, th.Tensor], old: th.Tensor, new: th.Tensor) -> th.Tensor:
        """Real next observations ``new`` (N, V), some of them replaced by imagined ones."""
        with th.no_grad():
            imagined = self.observation_head.sample(predicted, old, self.temperature, self.noise)
        return th.where(th.rand(old.shape[0], 1, device=old.device) < self.practice, imagined, new)

    def _imagine(self, recalled: Parts, state: State, seen: Parts, acted: Parts) -> th.Tensor:
        """(N, V) a next observation; ``seen`` is what is seen of the one in ``state``."""
        parameters = self._predict(recalled, state.percept, seen, acted)
        return self.observation_head.sample(parameters, state.percept, self.temperature, self.noise)

    def _outcome(self, recalled: Parts, old: Parts, acted: Parts, new: Parts) -> OutcomeLogits:
        """:param old, new: what was seen before and after"""
        # the new observation enters as the change, which is what most rewards are about
        change = Parts(*(None if a is None or b is None else b - a for a, b in zip(old, new, strict=True)))
        return self.outcome_head(together(old, self._in_own_units(change), acted, recalled))

    def _in_own_units(self, change: Parts) -> Parts:
        """:param change: of all that is seen; what is computed of pictures comes last, and stays as it is"""
        if self.moments is None or not self.scaled_changes:
            return change
        units = self.observed.split((self.moments.std / self.observation_head.changes.rms)[None])
        return Parts(*map(_scaled, change, units))

    def _mask_logits(self, state: State) -> th.Tensor:
        recalled = self._recall(state.memory)
        if self.action_layout.grids:
            return self.mask_head(self.mask_net(together(self._see(state.percept), recalled)))
        hidden = self.mask_net(together(self.observed.split(self._scale(state.percept)), recalled))  # (N, J, D)
        return self.mask_head(hidden.flatten(1))

    def _acted(self, action: th.Tensor) -> Parts:
        """(N, A) actions as the model's own networks see them: those about a cell also in the columns around it."""
        columns, loose = self.action_layout.split(action)
        if columns is None:
            return Parts(None, loose)
        padded = F.pad(columns, (0, 0, self.reach, self.reach))  # (N, J + 2 reach, channels)
        around = [padded[:, i : i + self.columns] for i in range(2 * self.reach + 1)]
        return Parts(th.cat(around, -1), loose)

    def _scale(self, observation: th.Tensor) -> th.Tensor:
        """(..., V) observations as the actor and the critic see them: bits as they are, others standardised."""
        return observation if self.moments is None else self.moments.normalize(symlog(observation))

    def _see(self, observation: th.Tensor) -> Parts:
        """(N, V) observations as the model's own networks see them: in pictures also what lies behind what."""
        return together(self.observed.split(self._scale(observation)), self.sight(observation))

    def _recall(self, memory: th.Tensor) -> Parts:
        """(N, M) memory as the model's own networks see it: the recurrent output, and the clock's hands."""
        hidden, hands = memory[:, : self.hidden * self.columns], self._hands(memory)
        if not self.observed.grids:
            return Parts(None, th.cat((hidden, *hands), -1))
        return Parts(hidden.unflatten(-1, (self.columns, -1)), th.cat(hands, -1) if hands else None)

    def _hands(self, memory: th.Tensor) -> tuple[th.Tensor, ...]:
        """(N, 7) each, where the clock's hands are; none without a clock."""
        if not self.clock:
            return ()
        angle = memory[:, -1:] * self.speeds
        return angle.cos(), angle.sin()

    def _tick(self, memory: th.Tensor, steps: th.Tensor) -> th.Tensor:
        """(..., N, 1) the clock ``steps`` after ``memory`` (N, M); (..., N, 0) without a clock."""
        now = (memory[:, -1:] + steps) % _FULL_TURN
        return now if self.clock else now[..., :0]

    def _unpack(self, memory: th.Tensor) -> Any:
        """(N, M) to what ``nn.GRU`` or ``nn.LSTM`` carries, (1, N * J, H) each."""
        carried = memory[:, : memory.shape[1] - int(self.clock)]
        parts = carried.reshape(memory.shape[0], -1, self.columns, self.hidden)
        unpacked = [part.reshape(1, -1, self.hidden).contiguous() for part in parts.unbind(1)]
        return tuple(unpacked) if self.cell == "lstm" else unpacked[0]

    def _pack(self, carried: tuple[th.Tensor, ...], clock: th.Tensor) -> th.Tensor:
        return th.cat([*(part.reshape(-1, self.columns * self.hidden) for part in carried), clock], -1)


def _scaled(change: th.Tensor | None, unit: th.Tensor | None) -> th.Tensor | None:
    """(..., C) of which the first values, as many as units, are multiplied by those, to 10 at most."""
    if change is None or unit is None:
        return change
    count = unit.shape[-1]
    return th.cat(((change[..., :count] * unit).clamp(-10.0, 10.0), change[..., count:]), -1)


def _widened(actions: Layout, reach: int) -> Layout:
    """The layout of actions of which ``reach`` columns on either side are told, too."""
    copies = 2 * reach + 1
    grids = tuple(Grid(0, 1, grid.columns, depth=copies * grid.channels) for grid in actions.grids)
    return Layout(copies * actions.size, grids) if grids else actions
