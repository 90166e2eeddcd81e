"""DREAM: Differentiable REcurrent Actor-critic with Model-based imagination."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, Schedule
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_dream.arguments import check_hyperparameters, resolve_environment
from sb3_dream.behaviour import Experience, draw_starts, evaluate, experience, losses_in_pieces
from sb3_dream.compiling import compile_steps
from sb3_dream.config_values import as_settings
from sb3_dream.diagnostics_callback import with_model_error
from sb3_dream.distributed import agree_on_observations
from sb3_dream.dreams import Dreams
from sb3_dream.environments import action_mask_size, action_masks, observation_layout, require_finite_step
from sb3_dream.imagination import Rollout, imagine
from sb3_dream.nn.collectives import average_buffers, least, world_size
from sb3_dream.nn.graphs import Graphs, recorder
from sb3_dream.nn.muon import MuonAdam
from sb3_dream.nn.optimization import FiniteCheck, Gradients, Scalars, descend, frozen, gradients
from sb3_dream.nn.wide_products import wide_products
from sb3_dream.overlap import Overlapped
from sb3_dream.planning import Planner
from sb3_dream.policies import CnnPolicy, DreamPolicy, MlpPolicy, MultiInputPolicy
from sb3_dream.replay import SequenceReplayBuffer, SequenceRows
from sb3_dream.resume import ResumableAlgorithm
from sb3_dream.world_models.base import Observed, RareRewards, Sequences, State

if TYPE_CHECKING:
    from sb3_dream.config import DREAMConfig

_ROLLOUTS_BEFORE_REWARD = 4  # within which a dream begins that is to come to a reward


class DREAM(ResumableAlgorithm):
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
    :param learning_starts: environment steps before the first update, of random play where nothing was learned yet
    :param batch_size: sequences a world-model update
    :param sequence_length: rows of a sequence
    :param reward_fraction: share of the sequences drawn around a reward, rare sizes of reward more often than they
        occur. Where rewards are a matter of chance, the model comes to expect them too often
    :param terminal_fraction: share of the sequences that are ends of episodes that terminated, which are seldom drawn
        otherwise where episodes are long. Where ends are a matter of chance, the model comes to expect them too often
    :param reward_batch_size: further steps an update, all with a reward, for the world model to learn how large rewards
        are; for environments where most steps have none
    :param rare_rewards: learn from those steps also whether there is a reward, with the odds corrected for their
        number: for rewards so rare that the model never expects one. Rare sizes then seem a little too frequent
    :param train_ratio: replayed rows for each environment step (DreamerV3's measure of work), whatever the number of
        environments; None for SB3's own ``gradient_steps`` after each ``train_freq``
    :param train_freq: environment steps of each environment between updates
    :param gradient_steps: updates after each ``train_freq`` when ``train_ratio`` is None
    :param overlap_updates: make them while the environments step, so one step later than otherwise: for environments
        whose steps take long in processes of their own (``SubprocVecEnv``); needs a ``train_ratio``
    :param model_warmup: updates of the world model alone, made at once when learning starts: a policy that learns in a
        model that knows nothing yet collapses onto the model's errors
    :param policy_delay: updates of the world model for each of the actor and the critic
    :param policy_delay_end: what that falls to, where it is less, as the discount factor rises: the better the model,
        the more there is to learn in it
    :param imagination_horizon: steps of an imagined rollout
    :param imagination_starts: rollouts an update of the actor and the critic
    :param dream_length: steps for which a dream goes on from one update to the next before another takes its place; at
        most ``imagination_horizon`` for rollouts that all begin anew, as Dreamer's do
    :param dream_length_end: what that becomes as the discount factor rises; None if it stays. Long dreams show a policy
        where it gets itself to, short ones leave it less of a young model's error to live off
    :param initial_fraction: share of new dreams that begin where an episode began; the others do at any replayed state
    :param before_reward_fraction: share of new dreams that begin up to four rollouts before a replayed step with a
        reward, whose rare sizes come up more often than they occur (Florensa et al. 2017, *Reverse Curriculum
        Generation*): where rewards are hardly ever met, what led to one is dreamt again and again
    :param plan_samples: sequences of actions that :meth:`predict` tries in the world model before each action, to play
        the first action of the best, see :mod:`sb3_dream.planning`; 0 for what the policy says
    :param plan_horizon: steps of such a sequence
    :param gamma: discount factor
    :param gamma_start: discount factor at first, where that is less: what is far away is learned last (François-Lavet
        et al. 2015, *How to Discount Deep Reinforcement Learning*), when the world model is accurate enough for it
    :param gamma_rise: environment steps between which the discount factor rises from the one to the other, and
        ``policy_delay`` falls to ``policy_delay_end`` and ``dream_length`` becomes ``dream_length_end``
    :param gae_lambda: lambda of the lambda-returns
    :param ent_coef: weight of the policy's entropy
    :param novelty_coef: weight of a reward, while learning, for imagining what is new, see :mod:`sb3_dream.novelty`;
        for environments whose rewards are hardly ever met by chance. A number or a schedule over the remaining progress
    :param n_epochs: passes of the actor and the critic over each set of rollouts; a dynamics gradient serves only once
    :param n_minibatches: parts of each pass
    :param clip_range: clipping of the probability ratio, which matters from the second gradient step on; a number or a
        schedule over the remaining progress
    :param normalize_advantage: standardise the advantages of each set of rollouts, as PPO does, instead of dividing
        them by the range of returns: keeps the entropy's weight the same while returns grow
    :param actor_gradient: ``"score"`` (likelihood ratio) or ``"dynamics"`` (through the world model, Box actions only)
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
    :param compile: compile what an update consists of, see :mod:`sb3_dream.compiling`
    :param cuda_graphs: on a GPU, record what an update consists of and repeat it as a whole, see
        :mod:`sb3_dream.nn.graphs`; settings of the networks, horizons and losses must not be changed any more then
    :param _init_setup_model: whether to build the networks at once
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }

    def __init__(
        self,
        policy: str | type[DreamPolicy] | GymEnv = "MlpPolicy",
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule = 2e-3,
        *,
        actor_learning_rate: float | Schedule | None = 1e-3,
        critic_learning_rate: float | Schedule | None = 1e-3,
        buffer_size: int = 500_000,
        learning_starts: int = 1_000,
        batch_size: int = 16,
        sequence_length: int = 16,
        reward_fraction: float = 0.0,
        terminal_fraction: float = 0.0,
        reward_batch_size: int = 32,
        rare_rewards: bool = False,
        train_ratio: float | None = 64.0,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        overlap_updates: bool = False,
        model_warmup: int = 500,
        policy_delay: int = 16,
        policy_delay_end: int = 8,
        imagination_horizon: int = 15,
        imagination_starts: int = 512,
        dream_length: int = 15,
        dream_length_end: int | None = 200,
        initial_fraction: float = 0.3,
        before_reward_fraction: float = 0.0,
        plan_samples: int = 0,
        plan_horizon: int = 12,
        gamma: float = 0.99,
        gamma_start: float = 0.97,
        gamma_rise: tuple[int, int] = (5_000, 30_000),
        gae_lambda: float = 0.9,
        ent_coef: float = 0.02,
        novelty_coef: float | Schedule = 0.0,
        n_epochs: int = 2,
        n_minibatches: int = 8,
        clip_range: float | Schedule = 0.2,
        normalize_advantage: bool = True,
        actor_gradient: Literal["score", "dynamics"] = "score",
        tau: float = 0.3,
        target_update_interval: int = 4,
        max_grad_norm: float = 1.0,
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
        compile: bool = False,
        cuda_graphs: bool = False,
        _init_setup_model: bool = True,
    ) -> None:
        policy_class, env = resolve_environment(policy, env, self.policy_aliases, verbose)
        super().__init__(
            policy_class,
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
            replay_buffer_class=SequenceReplayBuffer if replay_buffer_class is None else replay_buffer_class,
            replay_buffer_kwargs=as_settings("replay_buffer_kwargs", replay_buffer_kwargs),
            policy_kwargs=as_settings("policy_kwargs", policy_kwargs),
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
        self.overlap_updates = overlap_updates
        self.reward_fraction, self.terminal_fraction = reward_fraction, terminal_fraction
        self.reward_batch_size, self.rare_rewards = reward_batch_size, rare_rewards
        self.model_warmup, self.policy_delay, self.policy_delay_end = model_warmup, policy_delay, policy_delay_end
        self.imagination_horizon, self.imagination_starts = imagination_horizon, imagination_starts
        self.dream_length, self.dream_length_end = dream_length, dream_length_end
        self.initial_fraction, self.before_reward_fraction = initial_fraction, before_reward_fraction
        self.plan_samples, self.plan_horizon = plan_samples, plan_horizon
        self.gamma_start, self.gamma_rise = gamma_start, gamma_rise
        self.gae_lambda, self.ent_coef, self.novelty_coef = gae_lambda, ent_coef, novelty_coef
        self.n_epochs, self.n_minibatches, self.clip_range = n_epochs, n_minibatches, clip_range
        self.actor_gradient, self.normalize_advantage = actor_gradient, normalize_advantage
        self.target_update_interval, self.max_grad_norm = target_update_interval, max_grad_norm
        self.epsilon_start, self.epsilon_end, self.epsilon_decay = epsilon_start, epsilon_end, epsilon_decay
        self.use_masking, self.exploration_rate = use_masking, epsilon_start
        self.compile, self.cuda_graphs = compile, cuda_graphs
        self._owed_updates = 0.0
        self._from_env: dict[str, Any] | None = None  # what the policy has to know of the environment
        self._scalars: dict[str, tuple[th.Tensor, int]] = {}  # sums, and of how many, waiting to be logged
        check_hyperparameters(self)
        if _init_setup_model:
            if env is None:
                raise ValueError('no environment: use DREAM("CartPole-v1"), DREAM(env) or DREAM("MlpPolicy", env)')
            self._setup_model()

    @classmethod
    def from_config(cls, config: DREAMConfig, env: GymEnv | str, **kwargs: Any) -> DREAM:
        """
        :param config: everything but the environment
        :param env: environment, vectorized or not, or its id
        :param kwargs: further arguments, which go before those of the config
        """
        return config.make(env, cls, **kwargs)

    # ------------------------------------------------------------------ set up

    def _setup_model(self) -> None:
        if self._from_env is None:
            mask_size = action_mask_size(self.env, self.use_masking, self.action_space)
            self._from_env = {"mask_size": mask_size, "observation_layout": observation_layout(self.env)}
        rates = {"actor_lr_schedule": self.actor_learning_rate, "critic_lr_schedule": self.critic_learning_rate}
        schedules = {name: FloatSchedule(rate) for name, rate in rates.items() if rate is not None}
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        novelty = {"novelty": bool(self.novelty_coef)}
        kwargs = self._from_env | novelty | self.policy_kwargs | self._sizes | schedules
        policy = self.policy_class(self.observation_space, self.action_space, self.lr_schedule, **kwargs)
        self.policy = policy.to(self.device)
        if self.novelty_coef and policy.novelty is None:
            raise ValueError("novelty_coef must stay 0 for a model that was made with 0: it never learned what is new")
        if self.rare_rewards and not (self.reward_batch_size and policy.world_model.practises_rewards):
            raise ValueError(
                "rare_rewards must be False where no further steps with a reward are learned from: it needs a "
                "reward_batch_size above 0, and observe_rewarded() of the world model, as 'recurrent' has it"
            )
        if self.compile:
            compile_steps(self.policy)
        self._finite = FiniteCheck(late=self.device.type == "cuda")
        self._graphs = Graphs(recorder(self.device) if self.cuda_graphs else None)
        for optimizer in (self.policy.world_model_optimizer, self.policy.actor_critic_optimizer):
            if isinstance(optimizer, MuonAdam):
                optimizer.run = self._graphs.run
        if self.plan_samples:
            self.policy.planner = Planner(self.plan_samples, self.plan_horizon, float(self.gamma))
        if self.replay_buffer is None:
            self.replay_buffer = self._make_replay_buffer()
        self._convert_train_freq()
        self._dreams = Dreams(self.imagination_starts)

    def _make_replay_buffer(self, buffer_size: int | None = None, n_envs: int | None = None) -> SequenceReplayBuffer:
        assert self.replay_buffer_class is not None
        return self.replay_buffer_class(
            buffer_size or self.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=n_envs or self.n_envs,
            memory_size=self.policy.world_model.memory_size,
            mask_shape=self.policy.mask_size,
            binary=bool((self.policy.observation_layout or {}).get("binary")) or "auto",
            **self.replay_buffer_kwargs,
        )

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
        :param callback: called at every step of the environments; one that measures the model's error is added
        :param log_interval: episodes between two logs
        :param tb_log_name: name of the run in TensorBoard
        :param reset_num_timesteps: False to go on with an earlier run, see :mod:`sb3_dream.resume`
        :param progress_bar: show one (needs tqdm and rich)
        """
        callback = with_model_error(callback)
        super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
        self._finite.settle()
        return self

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """See :meth:`DreamPolicy.predict`. Never disturbs training, whatever is predicted, and when."""
        return self.policy.predict(observation, state, episode_start, deterministic, action_masks)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_memory_before", "_masks", "_scalars", "_finite", "_graphs"]

    # ----------------------------------------------------------------- collect

    def collect_rollouts(self, env: VecEnv, *args: Any, **kwargs: Any) -> RolloutReturn:
        """See the base class, which makes as many updates as the returned ``episode_timesteps`` if there is a ratio."""
        if self.overlap_updates and self._owed_updates >= 1:  # a wrapper asks every process something when it is made
            env = Overlapped(env, self._make_owed_updates)
        rollout = super().collect_rollouts(env, *args, **kwargs)
        if self.train_ratio is None or self.num_timesteps <= self.learning_starts:
            return rollout
        self._owed_updates += rollout.episode_timesteps * self.train_ratio / (self.batch_size * self.sequence_length)
        return rollout._replace(episode_timesteps=0 if self.overlap_updates else self._settle_owed_updates())

    def _settle_owed_updates(self) -> int:
        """How many updates are to be made now; a rest under one stays owed."""
        updates = int(self._owed_updates)
        self._owed_updates -= updates
        return updates

    def _make_owed_updates(self) -> None:
        updates = self._settle_owed_updates()
        if updates:
            self.train(updates, self.batch_size)
            self.policy.set_training_mode(False)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        self._mid_step = True
        with self._stream.use(), th.no_grad():
            chosen = self._choose(learning_starts, action_noise, n_envs)
        self.num_timesteps += (world_size() - 1) * n_envs  # of the other ranks; the base class adds our own
        stored = chosen.cpu().numpy().reshape(n_envs, *(self.action_space.shape or ()))
        return self.policy.to_env(chosen), stored

    def _choose(self, learning_starts: int, action_noise: ActionNoise | None, n_envs: int) -> th.Tensor:
        """(n_envs, n) actions as the policy gives them."""
        assert self._last_obs is not None and self._memory is not None and self.env is not None
        spec = self.policy.action_spec
        self._masks = None if self.policy.mask_size is None else action_masks(self.env, spec)
        mask = None if self._masks is None else th.as_tensor(self._masks, device=self.device)
        tensors, _ = self.policy.obs_to_tensor(self._last_obs)
        chosen, state = self.policy.act(tensors, self._memory, mask)
        explores = self._explores(n_envs, learning_starts)
        if explores.any():
            chosen[explores] = spec.sample(n_envs, mask).to(chosen)[explores]
        if action_noise is not None:
            chosen = (chosen + th.as_tensor(action_noise()).to(chosen).reshape(chosen.shape)).clamp(-1, 1)
        self._memory_before = self._memory
        self._memory = self.policy.world_model.remember(state, spec.encode(chosen))
        return chosen

    def _explores(self, n_envs: int, learning_starts: int) -> th.Tensor:
        """(n_envs,) bool, which environments play a random action now."""
        if self.num_timesteps < learning_starts and not self._n_updates:
            return th.ones(n_envs, dtype=th.bool)
        progress = min(1.0, (self.num_timesteps - learning_starts) / self.epsilon_decay)
        self.exploration_rate = self.epsilon_start + progress * (self.epsilon_end - self.epsilon_start)
        return th.rand(n_envs) < self.exploration_rate

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
        require_finite_step(new_obs, reward, infos, self.num_timesteps)
        # the base class finds the last observations and undoes VecNormalize; the memories and masks are ours to add
        add = partial(
            self.replay_buffer.add,
            memory=self._memory_before,
            last_memory=self._memory,
            masks=self._masks,
        )
        super()._store_transition(SimpleNamespace(add=add), buffer_action, new_obs, reward, dones, infos)  # type: ignore[arg-type]
        self._last_episode_starts = dones
        if dones.any():
            self._memory = self._memory.masked_fill(th.as_tensor(dones, device=self.device)[:, None], 0.0)
        self._mid_step = False

    # ------------------------------------------------------------------- train

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """
        :param gradient_steps: number of updates, after those of the warm-up if they are still to be made
        :param batch_size: sequences an update
        """
        self.policy.set_training_mode(True)
        agree_on_observations(self._vec_normalize_env)
        self.logger.record("train/learning_rate", self.policy.update_learning_rates(self._current_progress_remaining))
        for _ in range(gradient_steps + max(0, self.model_warmup - self._n_updates)):
            with self._stream.use():
                self._update(batch_size)
            average_buffers(self.policy)
        if not self._finite.late:
            self._record_scalars()
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/gamma", self._discount())
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def _update(self, batch_size: int) -> None:
        self._n_updates += 1
        samples = self.replay_buffer.sample_sequences(
            batch_size, self.sequence_length, self._vec_normalize_env, self.reward_fraction, self.terminal_fraction
        )
        sequences = self.policy.encode_sequences(samples)
        observed = self._train_world_model(sequences)
        self.replay_buffer.update_memory(samples.rows, observed.memory)
        if self._n_updates > self.model_warmup and self._n_updates % self._delay() == 0:
            self._train_actor_critic(self._dreams.join(self._beginnings(samples.rows, observed)))
        if self._n_updates % self.target_update_interval == 0:
            self.policy.actor_critic.update_slow_critic(self.tau)

    def _train_world_model(self, sequences: Sequences) -> Observed:
        sequences, rewarded = sequences._replace(rare=self._rare_rewards(sequences)), None
        if self.reward_batch_size and self.policy.world_model.practises_rewards:
            samples = self.replay_buffer.sample_sequences(self.reward_batch_size, 2, self._vec_normalize_env, 1.0)
            rewarded = self.policy.encode_sequences(samples)._replace(rare=sequences.rare)
        with wide_products():
            found, observed = self._graphs.run(self._model_gradients, sequences, rewarded)
        losses = descend(self.policy.world_model_optimizer, found, self.max_grad_norm, self._finite, self._when())
        self._log({"world_model_loss": th.stack(list(losses.values())).sum(), **losses, **observed.metrics})
        return observed

    def _model_gradients(self, sequences: Sequences, rewarded: Sequences | None) -> tuple[Gradients, Observed]:
        observed = self.policy.world_model.observe(sequences)
        parts = dict(observed.losses)
        if rewarded is not None:
            parts |= self.policy.world_model.observe_rewarded(rewarded)
        if self.policy.novelty is not None:
            parts["novelty"] = self.policy.novelty.loss(observed.percept, sequences.valid)
        losses = {f"world_model/{name}": loss for name, loss in parts.items()}
        found = gradients(self.policy.world_model_optimizer, losses, self._finite.late)
        return found, Observed(observed.memory.detach(), observed.percept.detach(), {}, observed.metrics)

    def _rare_rewards(self, sequences: Sequences) -> RareRewards | None:
        if not (self.rare_rewards and self.replay_buffer.n_rewarded):
            return None
        rate = self.replay_buffer.n_rewarded / self.replay_buffer.n_rows
        share = self.reward_batch_size / sequences.valid[:, 1:].sum().clamp(min=1)  # none where rows stand alone
        return RareRewards(share, (share / rate).log1p())

    def _beginnings(self, rows: SequenceRows, observed: Observed) -> list[State]:
        """Where the dreams begin that have to be begun."""
        born = missing = self._dreams.missing
        before = _ROLLOUTS_BEFORE_REWARD * self.imagination_horizon
        beginnings = []
        for share, sample in (
            (self.initial_fraction, self.replay_buffer.sample_firsts),
            (self.before_reward_fraction, partial(self.replay_buffer.sample_before_rewards, before)),
        ):
            count = min(missing, int((th.rand(born) < share).sum())) if share else 0
            samples = sample(count, self._vec_normalize_env) if count else None
            if samples is not None and len(samples.valid):  # none where nothing of the kind is stored
                beginnings.append(self.policy.first_states(samples))
                missing -= len(samples.valid)
        return [*beginnings, draw_starts(rows, observed, missing)]

    def _train_actor_critic(self, start: State) -> None:
        starts = least(len(start.memory))
        if not starts:  # the batch holds terminal states alone
            return
        discount, novelty_coef = self._now(self._discount()), self._now(self.novelty_coef)
        with wide_products(starts == self.imagination_starts):  # other numbers, as in short dreams, seldom come again
            rollout, steps, scalars = self._graphs.run(self._dream, start, discount, novelty_coef)
            self._finite(scalars, scalars["imagined_return"], self._when())
            self._dreams.go_on(rollout, self._length_of_dreams())
            self._log(scalars)
            epochs, parts = (1, 1) if self.actor_gradient == "dynamics" else (self.n_epochs, self.n_minibatches)
            clip_range = self._now(self.clip_range)
            for part in steps.batches(epochs, parts, starts * self.imagination_horizon):
                found = self._graphs.run(self._behaviour_gradients, part, clip_range)
                optimizer = self.policy.actor_critic_optimizer
                self._log(descend(optimizer, found, self.max_grad_norm, self._finite, self._when()))

    def _dream(self, start: State, discount: th.Tensor, novelty_coef: th.Tensor) -> tuple[Rollout, Experience, Scalars]:
        policy, through_model = self.policy, self.actor_gradient == "dynamics"
        with frozen(policy.world_model), th.set_grad_enabled(through_model):
            rollout = imagine(
                policy.world_model, policy.actor_critic, start, self.imagination_horizon, novelty=policy.novelty
            )
            evaluated = evaluate(rollout.curious(novelty_coef), policy.actor_critic, discount, self.gae_lambda)
        returns = evaluated.returns.detach()
        scale = policy.return_scale.update(returns)
        steps = experience(evaluated, scale, through_model, self.normalize_advantage)
        scalars = {"imagined_reward": rollout.rewards.detach().mean(), "imagined_return": returns.mean()}
        novelty = {} if rollout.novelty is None else {"novelty": rollout.novelty.mean()}
        return rollout, steps, {**scalars, **novelty, "return_scale": scale}

    def _behaviour_gradients(self, steps: Experience, clip_range: th.Tensor) -> Gradients:
        through_model = self.actor_gradient == "dynamics"
        losses = losses_in_pieces(self.policy.actor_critic, steps, through_model, clip_range, self.ent_coef)
        return gradients(self.policy.actor_critic_optimizer, losses, self._finite.late)

    def _discount(self) -> float:
        return self._as_gamma_rises(min(self.gamma_start, self.gamma), self.gamma)

    def _delay(self) -> int:
        return round(self._as_gamma_rises(self.policy_delay, min(self.policy_delay, self.policy_delay_end)))

    def _length_of_dreams(self) -> float:
        return self._as_gamma_rises(self.dream_length, self.dream_length_end or self.dream_length)

    def _as_gamma_rises(self, first: float, last: float) -> float:
        return float(np.interp(self.num_timesteps, self.gamma_rise, (first, last)))

    def _when(self) -> str:
        return f"update {self._n_updates} (step {self.num_timesteps})"

    def _now(self, value: float | Schedule) -> th.Tensor:
        """() what a number, or a schedule over the remaining progress, is now."""
        return th.full((), FloatSchedule(value)(self._current_progress_remaining), device=self.device)

    def _log(self, scalars: Scalars) -> None:
        for name, value in scalars.items():
            total, count = self._scalars.get(name, (None, 0))
            value = value.detach()  # which the next update may overwrite
            self._scalars[name] = value.clone() if total is None else total + value, count + 1

    def _record_scalars(self) -> None:
        for name, (total, count) in self._scalars.items():
            self.logger.record_mean(f"train/{name}", total.item() / count)
        self._scalars = {}

    def dump_logs(self) -> None:
        """See the base class. A GPU is asked here what training it was told of came to, and not before."""
        self._finite.settle()
        self._record_scalars()
        super().dump_logs()
