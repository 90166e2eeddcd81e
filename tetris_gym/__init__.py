"""Tetris for reinforcement learning: exact guideline rules, compiled, for one game or for thousands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym

from tetris_gym.env import Snapshot, TetrisEnv
from tetris_gym.outcome import Outcome

if TYPE_CHECKING:
    from tetris_gym.sb3_vec_env import TetrisVecEnv

__all__ = ["Outcome", "Snapshot", "TetrisEnv", "TetrisVecEnv", "register_envs"]


def register_envs() -> None:
    """
    Register ``TetrisDirect-v0`` and ``TetrisPlacement-v0`` with Gymnasium, once, and both with the reward of lines only
    under names of their own, by which logs and hyperparameter files tell the two tasks apart.
    """
    for env_id, action_mode, reward_mode in (
        ("TetrisDirect-v0", "direct", "standard"),
        ("TetrisPlacement-v0", "placement", "standard"),
        ("TetrisDirectLines-v0", "direct", "lines_only"),
        ("TetrisPlacementLines-v0", "placement", "lines_only"),
    ):
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry_point="tetris_gym.env:TetrisEnv",
                vector_entry_point="tetris_gym.vector:TetrisVectorEnv",
                max_episode_steps=10_000,
                # The environment itself refuses what these wrappers look for, without their cost in every step.
                order_enforce=False,
                disable_env_checker=True,
                kwargs={"action_mode": action_mode, "reward_mode": reward_mode},
            )


def __getattr__(name: str) -> Any:
    # Stable-Baselines3 takes seconds to import, and only this class needs it.
    if name == "TetrisVecEnv":
        from tetris_gym.sb3_vec_env import TetrisVecEnv

        return TetrisVecEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register_envs()
