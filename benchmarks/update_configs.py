"""Configurations whose updates are measured, and a model of each that is ready to make them.

``fixed`` has the sizes and the mathematics of common Dreamers of two million parameters; ``fixed, quick`` is the same
networks with 63 bins, as DREAM has, and 256 imagined rollouts, ``.., bfloat16`` the same again with products in
bfloat16.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sb3_dream.config import DREAMConfig
from sb3_dream.dream import DREAM
from tetris_gym import TetrisVecEnv

ROWS = 2_000

FIXED = DREAMConfig(
    world_model="rssm",
    world_model_kwargs={
        "width": 128, "hidden": 128, "memory": 928, "groups": 32, "classes": 8, "depth": 3, "reward_bins": 255
    },
    actor_critic_kwargs={"net_arch": (128, 128, 128), "critic_bins": 255},
    observation_layout={"binary": True},
    use_masking=False,
    batch_size=16,
    sequence_length=64,
    imagination_horizon=15,
    imagination_starts=1024,
    dream_length=200,
    dream_length_end=None,
    initial_fraction=0.5,
    gae_lambda=0.95,
    train_ratio=None,
    model_warmup=0,
    policy_delay=1,
    n_epochs=1,
    n_minibatches=1,
)  # fmt: skip
QUICK = replace(
    FIXED,
    world_model_kwargs={**FIXED.world_model_kwargs, "reward_bins": 63},
    actor_critic_kwargs={**FIXED.actor_critic_kwargs, "critic_bins": 63},
    imagination_starts=256,
)
BFLOAT16 = {"bfloat16": True}
CONFIGS = {
    "default": DREAMConfig(),
    **{name: DREAMConfig.preset(name) for name in ("guide", "300k", "1m", "3m", "12m")},
    "fixed": FIXED,
    "fixed, quick": QUICK,
    **{
        f"{name}, bfloat16": replace(
            config,
            world_model_kwargs=config.world_model_kwargs | BFLOAT16,
            actor_critic_kwargs=config.actor_critic_kwargs | BFLOAT16,
        )
        for name, config in (("fixed", FIXED), ("fixed, quick", QUICK))
    },
}


def ready(config: DREAMConfig, **kwargs: Any) -> DREAM:
    """
    :param config: the configuration
    :param kwargs: further arguments of the model
    :return: a model that has played random games, whose next update is not of a warm-up, and whose dreams last as long
        as they do in most of a training
    """
    config = replace(config, dream_length=config.dream_length_end or config.dream_length)
    env = TetrisVecEnv(8, pad_to=212)
    model = DREAM.from_config(config, env, learning_starts=ROWS, buffer_size=2 * ROWS, seed=0, **kwargs)
    model.learn(ROWS)
    model.model_warmup = 0
    return model


def whole(updates: int, config: DREAMConfig) -> int:
    """
    :param updates: at least so many
    :param config: the configuration
    :return: as many as all parts of the algorithm need to have had their turn equally often
    """
    return -(-updates // config.policy_delay) * config.policy_delay
