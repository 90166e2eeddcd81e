"""DREAM: Differentiable REcurrent Actor-critic with Model-based imagination."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule, update_learning_rate

from sb3_dream.environments import action_mask_size, action_masks, observation_layout, resolve_arguments
from sb3_dream.imagination import Rollout, imagine, lambda_returns
from sb3_dream.policies import CnnPolicy, DreamPolicy, MlpPolicy, MultiInputPolicy
from sb3_dream.replay import SequenceReplayBuffer, SequenceSamples
from sb3_dream.world_models.base import Observed, Sequences, State


class DREAM(OffPolicyAlgorithm):
    """A Dreamer-class algorithm: a world model learns from replayed sequences, the policy learns inside it.

    Sources: Hafner et al. 2023, "Mastering Diverse Domains through World Models" (imagination, returns, critic);
    Kapturowski et al. 2019, R2D2 (stored recurrent states); Schulman et al. 2017 (the clipped ratio when imagined
    rollouts serve more than one epoch).

    ``DREAM("CartPole-v1")``, ``DREAM(env)`` and ``DREAM("MlpPolicy", env)`` all work.

    :param policy: policy class or name, or, when ``env`` is left out, the environment
    :param env: environment or its id; unknown ids are looked for in installed packages that announce environments
    :param learning_rate: of the world model; a number or a schedule over the remaining progress (1 to 0)
    :param actor_learning_rate: of the actor; ``learning_rate`` when None
    :param critic_learning_rate: of the critic; ``learning_rate`` when None
    :param buffer_size: rows of replay over all environments
    :param learning_starts: environment steps of random play before the first update
    :param batch_size: sequences a world-model update
    :param sequence_length: rows of a sequence
    :param train_ratio: replayed rows for each environment step (DreamerV3's measure of work), whatever the number of
        environments; None for SB3's own ``gradient_steps`` after each ``train_freq``
    :param train_freq: environment steps of each environment between updates
    :param gradient_steps: updates after each ``train_freq`` when ``train_ratio`` is None
    :param model_warmup: updates of the world model alone, made at once when learning starts: a policy that learns in a
        model that knows nothing yet collapses onto the model's errors
    :param policy_delay: updates of the world model for each of the actor and the critic
    :param imagination_horizon: steps of an imagined rollout
    :param imagination_starts: rollouts an update of the actor and the critic, from states drawn out of the replayed ones
    :param gamma: discount factor
    :param gae_lambda: lambda of the lambda-returns
    :param ent_coef: weight of the policy's entropy
    :param n_epochs: passes of the actor and the critic over each set of rollouts
    :param n_minibatches: parts of each pass
    :param clip_range: clipping of the probability ratio, which matters from the second gradient step on
    :param normalize_advantage: standardise the advantages of each set of rollouts, as PPO does, instead of dividing
        them by the range of returns: keeps the entropy's weight the same while returns grow
    :param actor_gradient: ``"score"`` (likelihood ratio), ``"dynamics"`` (through the model, Box actions only) or
        ``"auto"``: dynamics for Box, score otherwise
    :param tau: share of the critic that the slow critic takes over at each of its updates; 1 for hard updates
    :param target_update_interval: updates between the slow critic's updates
    :param max_grad_norm: clipping of the gradient norm, of the world model, the actor and the critic each
    :param epsilon_start: share of random actions at first, on top of the policy's own randomness
    :param epsilon_end: share of random actions at the end
    :param epsilon_decay: environment steps between the two
    :param use_masking: ``"auto"`` uses action masks where the environment has ``action_masks()``
    :param action_noise: added to Box actions while collecting
    :param replay_buffer_class: subclass of :class:`SequenceReplayBuffer`
    :param replay_buffer_kwargs: its further arguments
    :param policy_kwargs: see :class:`DreamPolicy`; for one, ``dict(world_model="recurrent" | "rssm" | a class)``
    :param stats_window_size: episodes over which ``rollout/*`` is averaged
    :param tensorboard_log: folder of TensorBoard logs
    :param verbose: 0 nothing, 1 information, 2 debugging
    :param seed: of everything random
    :param device: ``"auto"``, ``"cpu"``, ``"cuda"`` ...
    :param _init_setup_model: whether to build the networks at once
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy: DreamPolicy
    replay_buffer: SequenceReplayBuffer

    def __init__(
        self,
        policy: str | type[DreamPolicy] | GymEnv = "MlpPolicy",
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule = 5e-4,
        *,
        actor_learning_rate: float | Schedule | None = None,
        critic_learning_rate: float | Schedule | None = None,
        buffer_size: int = 500_000,
        learning_starts: int = 1_000,
        batch_size: int = 16,
        sequence_length: int = 16,
        train_ratio: float | None = 32.0,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        model_warmup: int = 0,
        policy_delay: int = 1,
        imagination_horizon: int = 15,
        imagination_starts: int = 64,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        ent_coef: float = 3e-3,
        n_epochs: int = 1,
        n_minibatches: int = 1,
        clip_range: float = 0.2,
        normalize_advantage: bool = False,
        actor_gradient: Literal["auto", "score", "dynamics"] = "auto",
        tau: float = 0.02,
        target_update_interval: int = 1,
        max_grad_norm: float = 10.0,
        epsilon_start: float = 0.0,
        epsilon_end: float = 0.0,
        epsilon_decay: int = 50_000,
        use_masking: bool | Literal["auto"] = "auto",
        action_noise: ActionNoise | None = None,
        replay_buffer_class: type[SequenceReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        policy, env = resolve_arguments(policy, env, self.policy_aliases, verbose)
        super().__init__(
            policy,
            env,
            learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps if train_ratio is None else -1,
            action_noise=action_noise,
            replay_buffer_class=replay_buffer_class or SequenceReplayBuffer,
            replay_buffer_kwargs=replay_buffer_kwargs,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
            sde_support=False,
            supported_action_spaces=(spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box),
            support_multi_env=True,
        )
        self.actor_learning_rate, self.critic_learning_rate = actor_learning_rate, critic_learning_rate
        self.sequence_length, self.train_ratio = sequence_length, train_ratio
        self.model_warmup, self.policy_delay = model_warmup, policy_delay
        self.imagination_horizon, self.imagination_starts = imagination_horizon, imagination_starts
        self.gae_lambda, self.ent_coef = gae_lambda, ent_coef
        self.n_epochs, self.n_minibatches, self.clip_range = n_epochs, n_minibatches, clip_range
        self.normalize_advantage = normalize_advantage
        self.actor_gradient = actor_gradient
        self.target_update_interval, self.max_grad_norm = target_update_interval, max_grad_norm
        self.epsilon_start, self.epsilon_end, self.epsilon_decay = epsilon_start, epsilon_end, epsilon_decay
        self.use_masking = use_masking
        self.exploration_rate = epsilon_start
        self._owed_updates = 0.0
        self._memory: th.Tensor | None = None  # (n_envs, M) before the current observations
        if _init_setup_model:
            self._setup_model()

    # ------------------------------------------------------------------ set up

    def _setup_model(self) -> None:
        mask_size = action_mask_size(self.env, self.use_masking, self.action_space)
        layout = observation_layout(self.env)
        self.policy_kwargs.setdefault("mask_size", mask_size)
        self.policy_kwargs.setdefault("observation_layout", layout)
        rates = {"actor_lr_schedule": self.actor_learning_rate, "critic_lr_schedule": self.critic_learning_rate}
        schedules = {name: FloatSchedule(rate) for name, rate in rates.items() if rate is not None}
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.policy = self.policy_class(
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs, **schedules
        ).to(self.device)
        if self.replay_buffer is None:
            assert self.replay_buffer_class is not None
            self.replay_buffer = self.replay_buffer_class(
                self.buffer_size,
                self.observation_space,
                self.action_space,
                device=self.device,
                n_envs=self.n_envs,
                memory_size=self.policy.world_model.memory_size,
                mask_shape=self.policy.mask_size,
                binary=bool((self.policy.observation_layout or {}).get("binary")) or "auto",
                **self.replay_buffer_kwargs,
            )
            self.replay_buffer.seed(self.seed)
        self._convert_train_freq()

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, Any]:
        fresh = reset_num_timesteps or self._last_obs is None
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        if fresh:  # the environments have just been reset: what was under way has ended
            self.replay_buffer.truncate_last_trajectory()
            self._memory = self.policy.world_model.initial_memory(self.n_envs)
        return result

    def learn(
        self,
        total_timesteps: int = 100_000,
        callback: MaybeCallback = None,
        log_interval: int = 10,
        tb_log_name: str = "DREAM",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> DREAM:
        """
        :param total_timesteps: environment steps, over all environments
        :param callback: called at every step of the environments
        :param log_interval: episodes between two logs
        :param tb_log_name: name of the run in TensorBoard
        :param reset_num_timesteps: False to go on with an earlier run
        :param progress_bar: show one (needs tqdm and rich)
        """
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    # ----------------------------------------------------------------- collect

    @th.no_grad()
    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        assert self._last_obs is not None and self._memory is not None and self.env is not None
        self._masks = action_masks(self.env) if self.policy.mask_size is not None else None
        mask = None if self._masks is None else th.as_tensor(self._masks, device=self.device)
        tensors, _ = self.policy.obs_to_tensor(self._last_obs)
        chosen, state = self.policy.act(tensors, self._memory, mask)
        explores = self._exploring(n_envs, learning_starts)
        if explores.any():
            chosen[explores] = self._random_actions(n_envs, mask)[explores]
        if action_noise is not None and self.policy.action_spec.continuous:
            chosen = (chosen + th.as_tensor(action_noise(), dtype=chosen.dtype).reshape(chosen.shape)).clamp(-1, 1)
        self._memory_before = self._memory
        self._memory = self.policy.world_model.remember(state, self.policy.action_spec.encode(chosen))
        stored = chosen.cpu().numpy().reshape(n_envs, *(self.action_space.shape or ()))
        return self.policy.to_env(chosen), stored

    def _exploring(self, n_envs: int, learning_starts: int) -> th.Tensor:
        """(n_envs,) bool, which environments play a random action now."""
        if self.num_timesteps < learning_starts:
            return th.ones(n_envs, dtype=th.bool)
        progress = min(1.0, (self.num_timesteps - learning_starts) / max(1, self.epsilon_decay))
        self.exploration_rate = self.epsilon_start + progress * (self.epsilon_end - self.epsilon_start)
        if self.exploration_rate == 0.0:
            return th.zeros(n_envs, dtype=th.bool)
        return th.rand(n_envs) < self.exploration_rate

    def _random_actions(self, n_envs: int, mask: th.Tensor | None) -> th.Tensor:
        """(n_envs, n) uniformly random actions, out of the allowed ones."""
        spec = self.policy.action_spec
        if spec.continuous:
            return 2 * th.rand(n_envs, spec.vector_size, device=self.device) - 1
        allowed = th.ones(n_envs, spec.vector_size, device=self.device) if mask is None else mask.float()
        return th.stack([part.multinomial(1)[:, 0] for part in allowed.split(spec.choices, -1)], -1).float()

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        assert self._memory is not None
        # the base class finds the last observations and undoes VecNormalize; the memories and masks are ours to add
        add = partial(
            self.replay_buffer.add,
            memory=self._memory_before.cpu().numpy(),
            last_memory=self._memory.cpu().numpy(),
            masks=self._masks,
        )
        super()._store_transition(SimpleNamespace(add=add), buffer_action, new_obs, reward, dones, infos)  # type: ignore[arg-type]
        self._last_episode_starts = dones
        if dones.any():
            self._memory = self._memory.masked_fill(th.as_tensor(dones, device=self.device)[:, None], 0.0)

    # ------------------------------------------------------------------- train

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """
        :param gradient_steps: number of updates; with a ``train_ratio``, environment steps since the last call
        :param batch_size: sequences an update
        """
        if self.train_ratio is not None:
            self._owed_updates += gradient_steps * self.train_ratio / (batch_size * self.sequence_length)
            gradient_steps = int(self._owed_updates)
            self._owed_updates -= gradient_steps
        warmup = max(0, self.model_warmup - self._n_updates)
        gradient_steps += warmup
        if gradient_steps == 0:
            return
        self.policy.set_training_mode(True)
        self._update_learning_rates()
        for update in range(gradient_steps):
            samples = self.replay_buffer.sample_sequences(batch_size, self.sequence_length, self._vec_normalize_env)
            sequences = self._encode(samples)
            observed = self._train_world_model(sequences)
            self.replay_buffer.update_memory(samples.rows, observed.memory.cpu().numpy(), samples.valid.cpu().numpy())
            self._n_updates += 1
            if update >= warmup and self._n_updates % self.policy_delay == 0:
                self._train_actor_critic(self._starts(sequences, observed))
            if self._n_updates % self.target_update_interval == 0:
                self.policy.actor_critic.update_slow_critic(self.tau)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def _encode(self, samples: SequenceSamples) -> Sequences:
        return Sequences(
            self.policy.encode(samples.observations),
            self.policy.action_spec.encode(samples.actions),
            samples.rewards,
            samples.terminated.float(),
            samples.valid.float(),
            samples.memory,
            None if samples.masks is None else samples.masks.float(),
        )

    def _train_world_model(self, sequences: Sequences) -> Observed:
        observed = self.policy.world_model.observe(sequences)
        loss = sum(observed.losses.values())
        self._minimise(self.policy.world_model_optimizer, loss, observed.losses)
        self._log({"world_model_loss": loss, **{f"world_model/{k}": v for k, v in observed.losses.items()}})
        self._log(observed.metrics)
        return Observed(observed.memory.detach(), observed.percept.detach(), {}, {})

    def _starts(self, sequences: Sequences, observed: Observed) -> State:
        """States to imagine from, drawn among those that are real and not terminal."""
        usable = (sequences.valid * (1 - sequences.terminated)).flatten().nonzero().squeeze(-1)
        chosen = usable[th.randperm(len(usable), device=usable.device)[: self.imagination_starts]]
        return State(observed.memory.flatten(0, 1)[chosen], observed.percept.flatten(0, 1)[chosen])

    def _train_actor_critic(self, start: State) -> None:
        policy = self.policy
        through_model = self.actor_gradient == "dynamics" or (
            self.actor_gradient == "auto" and policy.action_spec.continuous
        )
        policy.world_model.requires_grad_(False)
        with th.set_grad_enabled(through_model):
            rollout = imagine(policy.world_model, policy.actor_critic, start, self.imagination_horizon)
            flat = rollout.features.flatten(0, 1)
            values = policy.actor_critic.slow_values(flat).unflatten(0, rollout.features.shape[:2])  # (H + 1, N)
            returns = lambda_returns(rollout.rewards, rollout.continues, values, self.gamma, self.gae_lambda)
        policy.world_model.requires_grad_(True)
        scale = policy.return_scale.update(returns.detach())
        self._log({"imagined_return": returns.mean(), "return_scale": scale, "imagined_reward": rollout.rewards.mean()})
        if through_model:
            self._improve_through_model(rollout, returns / scale, returns.detach(), values.detach()[:-1])
        else:
            advantages = returns - values[:-1]
            if self.normalize_advantage:
                advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            else:
                advantages = advantages / scale
            self._improve_by_score(rollout, advantages, returns, values[:-1])

    def _improve_by_score(
        self, rollout: Rollout, advantages: th.Tensor, returns: th.Tensor, values: th.Tensor
    ) -> None:
        """
        :param advantages: (H, N) scaled
        :param returns: (H, N)
        :param values: (H, N) of the slow critic
        """
        batch = [rollout.features[:-1], rollout.actions, rollout.log_probs, advantages, returns, values, rollout.weights()]
        batch = [x.flatten(0, 1) for x in batch]
        masks = None if rollout.masks is None else rollout.masks.flatten(0, 1)
        for _ in range(self.n_epochs):
            for rows in th.randperm(len(advantages.flatten()), device=self.device).chunk(self.n_minibatches):
                features, actions, old_log_probs, advantage, target, slow, weight = (x[rows] for x in batch)
                actor, outputs = self.policy.actor_critic.evaluate(features, None if masks is None else masks[rows])
                ratio = (actor.log_prob(actions) - old_log_probs).exp()
                clipped = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
                gain = th.minimum(ratio * advantage, clipped * advantage)
                self._step_actor_critic(-gain, actor.entropy(), outputs, target, slow, weight)

    def _improve_through_model(
        self, rollout: Rollout, gains: th.Tensor, returns: th.Tensor, values: th.Tensor
    ) -> None:
        """
        :param gains: (H, N) scaled returns, differentiable through the model
        :param returns: (H, N)
        :param values: (H, N) of the slow critic
        """
        features = rollout.features[:-1].detach().flatten(0, 1)
        actor, outputs = self.policy.actor_critic.evaluate(features, None)
        weight = rollout.weights().flatten()
        self._step_actor_critic(-gains.flatten(), actor.entropy(), outputs, returns.flatten(), values.flatten(), weight)

    def _step_actor_critic(
        self,
        policy_loss: th.Tensor,
        entropy: th.Tensor,
        outputs: th.Tensor,
        target: th.Tensor,
        slow: th.Tensor,
        weight: th.Tensor,
    ) -> None:
        """One gradient step; everything is (N,) but the critic's ``outputs`` (N, bins)."""
        critic = self.policy.actor_critic
        losses = {
            "actor_loss": (policy_loss * weight).mean(),
            "entropy_loss": -self.ent_coef * (entropy * weight).mean(),
            "critic_loss": ((critic.value_loss(outputs, target) + critic.value_loss(outputs, slow)) * weight).mean(),
        }
        self._minimise(self.policy.actor_critic_optimizer, sum(losses.values()), losses)
        self._log({**losses, "entropy": entropy.mean()})

    def _minimise(self, optimizer: th.optim.Optimizer, loss: Any, parts: dict[str, th.Tensor]) -> None:
        """One optimiser step; stops before any parameter is spoiled when the loss is not finite."""
        if not th.isfinite(loss):
            bad = [name for name, part in parts.items() if not th.isfinite(part)]
            raise FloatingPointError(
                f"{', '.join(bad)} became NaN or infinite at update {self._n_updates} ({self.num_timesteps} steps); "
                "no parameter was changed by it. Check rewards and observations, or lower the learning rate."
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimizer.param_groups:
            th.nn.utils.clip_grad_norm_(group["params"], self.max_grad_norm, foreach=True)
        optimizer.step()

    def _update_learning_rates(self) -> None:
        progress = self._current_progress_remaining
        self.logger.record("train/learning_rate", self.lr_schedule(progress))
        update_learning_rate(self.policy.world_model_optimizer, self.lr_schedule(progress))
        actor, critic = self.policy.actor_critic_optimizer.param_groups
        actor["lr"] = self.policy.actor_lr_schedule(progress)
        critic["lr"] = self.policy.critic_lr_schedule(progress)

    def _log(self, scalars: dict[str, th.Tensor]) -> None:
        for name, value in scalars.items():
            self.logger.record_mean(f"train/{name}", value.item())
