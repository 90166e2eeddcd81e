"""The policies of DREAM: a world model, an actor and a critic as one Stable-Baselines3 policy."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.common.utils import get_device, update_learning_rate

from sb3_dream.actor_critic import ActorCritic, ReturnScale
from sb3_dream.config_values import as_settings
from sb3_dream.network_arguments import check_network_arguments
from sb3_dream.nn.muon import MuonAdam
from sb3_dream.novelty import Novelty
from sb3_dream.optimizer_arguments import make_optimizer, optimizer_arguments
from sb3_dream.planning import Planner
from sb3_dream.spaces import IMAGE, VECTOR, ActionSpec, Observation, ObservationSpec
from sb3_dream.stored_settings import read_settings, told, write_settings
from sb3_dream.world_models import WORLD_MODELS, make_world_model
from sb3_dream.world_models.base import Sequences, State, WorldModel
from sb3_dream.zip_files import opened

if TYPE_CHECKING:
    from sb3_dream.replay_samples import SequenceSamples


class DreamPolicy(BasePolicy):
    """
    :param observation_space: Box, Discrete, MultiDiscrete, MultiBinary, images, or a flat Dict of them
    :param action_space: Discrete, MultiDiscrete, MultiBinary or a bounded Box
    :param lr_schedule: the world model's learning rate over the remaining progress (1 to 0)
    :param world_model: ``"recurrent"``, ``"rssm"``, ``"compact"`` or a :class:`WorldModel` subclass
    :param world_model_kwargs: the world model's own arguments
    :param actor_critic_kwargs: arguments of :class:`ActorCritic`
    :param observation_layout: what the flat observation holds, see :mod:`sb3_dream.spaces`; DREAM fills it in from the
        environment's attribute of the same name
    :param mask_size: number of action-mask bits; DREAM fills it in where the environment has ``action_masks()``
    :param novelty: whether there is a :class:`~sb3_dream.novelty.Novelty`; DREAM fills it in
    :param actor_lr_schedule: the actor's learning rate, ``lr_schedule`` when None
    :param critic_lr_schedule: the critic's learning rate, ``lr_schedule`` when None
    :param optimizer_class: optimiser of all parts. The default is Adam but for the matrices of world models that ask
        for orthogonal steps, as ``"recurrent"`` does
    :param optimizer_kwargs: its arguments, the learning rate excluded; None for ``eps=1e-5`` of Adam, and for the own
        defaults of other optimisers
    """

    default_world_model = "recurrent"

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        world_model: str | type[WorldModel] | None = None,
        world_model_kwargs: dict[str, Any] | None = None,
        actor_critic_kwargs: dict[str, Any] | None = None,
        observation_layout: dict[str, Any] | None = None,
        mask_size: int | None = None,
        novelty: bool = False,
        actor_lr_schedule: Schedule | None = None,
        critic_lr_schedule: Schedule | None = None,
        optimizer_class: type[th.optim.Optimizer] = MuonAdam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        optimizer_kwargs = optimizer_arguments(optimizer_class, optimizer_kwargs)
        super().__init__(
            observation_space,
            action_space,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            squash_output=isinstance(action_space, spaces.Box),
        )
        self.lr_schedule = lr_schedule
        self.actor_lr_schedule = actor_lr_schedule or lr_schedule
        self.critic_lr_schedule = critic_lr_schedule or lr_schedule
        self.world_model_choice = self.default_world_model if world_model is None else world_model
        self.world_model_kwargs = as_settings("world_model_kwargs", world_model_kwargs)
        self.actor_critic_kwargs = as_settings("actor_critic_kwargs", actor_critic_kwargs)
        self.observation_layout, self.mask_size = observation_layout, mask_size
        self.observation_spec = ObservationSpec(observation_space, observation_layout)
        self.action_spec = ActionSpec(action_space, observation_layout)
        if mask_size is not None and mask_size != sum(self.action_spec.choices):
            raise ValueError(
                f"action masks have {mask_size} entries, but {action_space} has {sum(self.action_spec.choices)} choices"
            )
        choice = self.world_model_choice
        kind = WORLD_MODELS.get(choice) if isinstance(choice, str) else choice
        if isinstance(kind, type) and issubclass(kind, WorldModel):
            check_network_arguments("world_model_kwargs", self.world_model_kwargs, kind)
        check_network_arguments("actor_critic_kwargs", self.actor_critic_kwargs, ActorCritic)
        self.world_model = make_world_model(
            self.world_model_choice, self.observation_spec, self.action_spec, mask_size, **self.world_model_kwargs
        )
        self.actor_critic = ActorCritic(
            self.world_model.feature_layout,
            self.action_spec,
            self.world_model.critic_layout,
            **self.actor_critic_kwargs,
        )
        self.return_scale = ReturnScale()
        self.planner: Planner | None = None  # of predict(); a model's settings say which
        groups = self.world_model.parameter_groups()
        self.novelty = Novelty(self._percept_size()) if novelty else None
        if self.novelty is not None:
            groups = [*groups, {"params": list(self.novelty.predictor.parameters())}]
        self.world_model_optimizer = make_optimizer(optimizer_class, groups, lr_schedule(1), optimizer_kwargs)
        step = {"matrix_step": self.actor_critic.matrix_step}
        self.actor_critic_optimizer = make_optimizer(
            optimizer_class,
            [
                {"params": self.actor_critic.actor_parameters(), "lr": self.actor_lr_schedule(1), **step},
                {"params": self.actor_critic.critic_parameters(), "lr": self.critic_lr_schedule(1), **step},
            ],
            self.actor_lr_schedule(1),
            optimizer_kwargs,
        )

    @th.no_grad()
    def _percept_size(self) -> int:
        spec = self.observation_spec
        nothing = {name: th.zeros(1, *shape) for name, shape in spec.image_shapes.items()}
        if spec.vector_size:
            nothing[VECTOR] = th.zeros(1, spec.vector_size)
        return self.world_model.perceive(self.world_model.initial_memory(1), nothing).percept.shape[1]

    def update_learning_rates(self, progress_remaining: float) -> float:
        """
        :param progress_remaining: from 1 to 0
        :return: the world model's learning rate
        """
        rate = self.lr_schedule(progress_remaining)
        update_learning_rate(self.world_model_optimizer, rate)
        actor, critic = self.actor_critic_optimizer.param_groups
        actor["lr"] = self.actor_lr_schedule(progress_remaining)
        critic["lr"] = self.critic_lr_schedule(progress_remaining)
        return rate

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        data.pop("normalize_images", None)
        data.pop("features_extractor_class", None)
        data.pop("features_extractor_kwargs", None)
        data.update(
            lr_schedule=self._dummy_schedule,  # an untrained optimiser is what a loaded policy needs
            **self.sizes(),
            observation_layout=self.observation_layout,
            mask_size=self.mask_size,
        )
        return data

    def sizes(self) -> dict[str, Any]:
        """
        :return: the arguments that the networks and their optimisers are made of, today's defaults included: so that
            they can be made again when the defaults have changed
        """
        return {
            "world_model": self.world_model_choice,
            "world_model_kwargs": _defaults(type(self.world_model)) | self.world_model_kwargs,
            "actor_critic_kwargs": _defaults(ActorCritic) | self.actor_critic_kwargs,
            "novelty": self.novelty is not None,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }

    def save(self, path: str) -> None:
        """
        :param path: of a file for the policy alone
        """
        arguments = self._get_constructor_parameters()
        del arguments["lr_schedule"]
        th.save({"state_dict": self.state_dict(), "data": write_settings(arguments)}, path)

    @classmethod
    def load(cls, path: str, device: th.device | str = "auto", trust: bool | None = None) -> Self:
        """
        :param path: a file that :meth:`save` wrote
        :param device: where the policy is to run
        :param trust: see :func:`~sb3_dream.model_files.read_model`
        :return: the policy
        :raises FileNotFoundError: if there is no such file
        :raises ValueError: if it is damaged, something else, or would have to be trusted
        """
        device = get_device(device)
        try:
            with opened(path):
                pass
            stored = th.load(path, map_location=device, weights_only=True)
            data, state = stored["data"], stored["state_dict"]
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever reading a wrong file may raise
            raise ValueError(f"{path} is not a saved policy of DREAM, or it is damaged: {told(error)}") from error
        arguments = read_settings(data, path, trust=trust)
        try:
            policy = cls(lr_schedule=cls._dummy_schedule, **as_saved(arguments))
            policy.load_state_dict(state)
        except Exception as error:  # whatever wrong settings may raise
            raise ValueError(f"{path}: the settings and the weights do not fit this version: {told(error)}") from error
        return policy.to(device)

    @property
    def device(self) -> th.device:
        """Where all parts are. The base class goes through its layers to find out, each time."""
        return self.return_scale.low.device

    def set_training_mode(self, mode: bool) -> None:
        """
        :param mode: whether to train or to act. Setting it takes as long as acting, as PyTorch goes through all layers
        """
        if mode != self.training:
            super().set_training_mode(mode)

    def encode(self, observation: PyTorchObs) -> Observation:
        """
        :param observation: raw tensors, each (N, ...)
        :return: what the world model takes
        """
        return self.observation_spec.encode(observation)

    def encode_sequences(self, samples: SequenceSamples) -> Sequences:
        """
        :param samples: from the replay buffer
        :return: what the world model learns from
        """
        parts = self.observation_spec.parts
        raw = samples.observations if isinstance(samples.observations, dict) else {IMAGE: samples.observations}
        # Stable-Baselines3 stores a number as an array of one
        raw = {
            key: raw[key].squeeze(-1) if isinstance(part, spaces.Discrete) else raw[key] for key, part in parts.items()
        }
        return Sequences(
            self.encode(raw),
            self.action_spec.encode(samples.actions),
            samples.rewards,
            samples.terminated.float(),
            samples.valid.float(),
            samples.memory,
            None if samples.masks is None else samples.masks.float(),
        )

    def first_states(self, samples: SequenceSamples) -> State:
        """
        :return: the states in which the sequences begin
        """
        sequences = self.encode_sequences(samples)
        observation = {name: part[:, 0] for name, part in sequences.observation.items()}
        return self.world_model.perceive(sequences.memory, observation)

    def act(
        self,
        observation: PyTorchObs,
        memory: th.Tensor,
        mask: th.Tensor | None = None,
        deterministic: bool = False,
        planner: Planner | None = None,
    ) -> tuple[th.Tensor, State]:
        """
        :param observation: raw tensors, each (N, ...)
        :param memory: (N, M) the world model's memory before this observation
        :param mask: (N, K) bool of allowed actions; the world model's own belief when None
        :param deterministic: the most probable action instead of a sampled one
        :param planner: what chooses the actions instead of the policy alone
        :return: (N, n) actions (indices, or values in [-1, 1]), and the state in which they were chosen
        """
        world_model = self.world_model
        state = world_model.perceive(memory, self.encode(observation))
        mask = world_model.action_mask(state) if mask is None else mask
        if planner is None:
            policy = self.actor_critic.actions(world_model.features(state), mask)
            action = policy.mode() if deterministic else policy.sample()
        else:
            action = planner.choose(world_model, self.actor_critic, state, mask)
        return action, state

    def forward(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self._predict(observation, deterministic)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        batch = next(iter(self.encode(observation).values())).shape[0]
        memory = self.world_model.initial_memory(batch)
        return self.act(observation, memory, deterministic=deterministic, planner=self.planner)[0]

    def to_env(self, action: th.Tensor) -> np.ndarray:
        """
        :param action: (N, n) as :meth:`act` returns them
        :return: the environment's actions, ``(N, *action_space.shape)``
        """
        array = action.cpu().numpy()
        space = self.action_space
        array = array.reshape(-1, *(space.shape or ()))
        if isinstance(space, spaces.Box):
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)  # small types would overflow
            array = low + 0.5 * (array + 1.0) * (high - low)
            array = np.rint(array) if np.issubdtype(space.dtype, np.integer) else array
            with np.errstate(invalid="ignore", over="ignore"):  # the ends of large integers are no floats
                inside = np.clip(array.astype(space.dtype), space.low, space.high)
            return np.where(array >= high, space.high, np.where(array <= low, space.low, inside))
        return array.astype(space.dtype) + np.asarray(getattr(space, "start", 0), dtype=space.dtype)

    @th.inference_mode()
    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        :param observation: one observation, or one for each environment
        :param state: what the last call returned, a row per environment; None is a fresh start
        :param episode_start: (N,) bool, where an episode has just begun
        :param deterministic: the most probable action instead of a sampled one; no matter where :attr:`planner` chooses
        :param action_masks: (N, K) or (K,) bool; without it the world model's own belief is used
        :return: actions, and the state to pass with the next observation
        """
        self.set_training_mode(False)
        if isinstance(observation, tuple):
            raise ValueError(
                "predict() takes an observation, not a tuple: Gymnasium's env.reset() returns (observation, info), "
                "while a VecEnv's returns the observations alone"
            )
        tensors, vectorized = self.obs_to_tensor(observation)
        batch = len(next(iter(tensors.values())) if isinstance(tensors, dict) else tensors)
        expected = (batch, self.world_model.memory_size)
        if state is None:
            memory = self.world_model.initial_memory(batch)
        elif state[0].shape == expected:
            memory = th.as_tensor(state[0], device=self.device)
        else:
            raise ValueError(
                f"state is of shape {state[0].shape}, expected {expected} for {batch} environments; "
                "pass state=None to start"
            )
        if episode_start is not None and np.any(episode_start):
            starts = th.as_tensor(np.atleast_1d(episode_start), dtype=th.bool, device=self.device)
            memory = memory.masked_fill(starts[:, None], 0.0)
        mask = None
        if action_masks is not None and self.mask_size is not None:
            mask = th.as_tensor(np.asarray(action_masks), dtype=th.bool, device=self.device)
            if mask.numel() != batch * self.mask_size:
                raise ValueError(f"action_masks are of shape {tuple(mask.shape)}, expected {(batch, self.mask_size)}")
            mask = mask.reshape(batch, self.mask_size)
        action, perceived = self.act(tensors, memory, mask, deterministic, self.planner)
        memory = self.world_model.remember(perceived, self.action_spec.encode(action))
        actions = self.to_env(action)
        return (actions if vectorized else actions[0]), (memory.cpu().numpy(),)


def as_saved(sizes: dict[str, Any]) -> dict[str, Any]:
    """
    :param sizes: what :meth:`DreamPolicy.sizes` returned when a file was written; empty for files without
    :return: the same, and what was done before there was an argument for it
    """
    if not sizes:
        return sizes
    choice = sizes.get("world_model")
    kind = WORLD_MODELS.get(choice) if isinstance(choice, str) else choice
    formerly = getattr(kind, "formerly", {})
    return {"novelty": False} | sizes | {"world_model_kwargs": formerly | sizes["world_model_kwargs"]}


def _defaults(kind: type) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


class CnnPolicy(DreamPolicy):
    """For images: latents, since a picture's pixels are no state."""

    default_world_model = "rssm"


class MultiInputPolicy(DreamPolicy):
    """For Dict observations."""

    default_world_model = "rssm"


MlpPolicy = DreamPolicy
