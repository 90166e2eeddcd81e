"""Updates of other public Dreamers at the sizes of the ``fixed`` configuration, to be timed beside those of DREAM.

So far one: DreamerV3 as torchrl's package has it (``pip install --no-deps torchrl==0.14.1 'tensordict<0.15' pyvers``),
put together from its public modules, losses and optimiser, in float32, not compiled.

The same as in ``fixed``: 212 inputs, eight actions, 16 x 64 rows, an imagined rollout of 15 steps from each of them, 32
categoricals of eight classes with 1 % of the uniform distribution, a GRU in eight blocks, 2.06 million parameters,
perceptrons 128 wide with as many hidden layers, 255 two-hot bins for rewards and values, KL losses with free nats,
lambda returns, normalised returns, REINFORCE (a clipped ratio of one epoch is it), an entropy bonus, a slow critic.

Not the same: each block of torchrl's GRU reads 384 inputs, where DREAM's reads 128, so that its memory is of 824
numbers instead of 928 for as many parameters. It normalises by the root mean square, reconstructs symlog values with
squared errors instead of bits, adds a loss of values on replayed rows, and takes one backward pass of all losses and
one step of its own optimiser (adaptive clipping, root mean square, momentum) after it.
Its rows are ready in memory: taking them out of a replay buffer is not part of its time, as it is of DREAM's.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch as th

INPUTS, ACTIONS, BATCH, STEPS, HORIZON = 212, 8, 16, 64, 15
MEMORY, BLOCKS, GROUPS, CLASSES, WIDTH, DEPTH, BINS = 824, 8, 32, 8, 128, 3, 255


@dataclass
class Peer:
    """
    Another Dreamer, ready to learn.

    :param name: of the package, with its version
    :param parameters: that are learned, without slow copies
    :param replayed: rows an update
    :param imagined: steps an update
    :param update: makes one gradient update of everything
    """

    name: str
    parameters: int
    replayed: int
    imagined: int
    update: Callable[[], Any]


def torchrl_dreamer_v3() -> Peer:
    """
    :return: torchrl's DreamerV3
    :raises ImportError: if torchrl is not installed, or a version without it, or something that it needs is missing
    """
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule as Module
    from tensordict.nn import TensorDictSequential as Sequential
    from torchrl.data import Composite, OneHot, Unbounded
    from torchrl.envs.model_based import DreamerEnv
    from torchrl.modules import (
        DreamerV3DiscreteActor,
        DreamerV3MLP,
        RSSMPosteriorV3,
        RSSMPriorV3,
        RSSMRolloutV3,
        SymExpTwoHot,
        WorldModelWrapper,
    )
    from torchrl.objectives import (
        DreamerV3ActorLoss,
        DreamerV3Loss,
        DreamerV3ModelLoss,
        DreamerV3ValueLoss,
        SoftUpdate,
        ValueEstimators,
        symexp,
        symlog,
    )
    from torchrl.trainers.algorithms import DreamerV3OptimizationStepper, DreamerV3Optimizer

    latent, features = GROUPS * CLASSES, MEMORY + GROUPS * CLASSES
    here, there = ["belief", "state"], [("next", "belief"), ("next", "state")]
    sizes = {"hidden_dim": WIDTH, "rnn_hidden_dim": MEMORY, "num_categoricals": GROUPS, "num_classes": CLASSES}

    def perceptron(inputs: int, outputs: int | None, depth: int, outscale: float = 1.0) -> th.nn.Module:
        return DreamerV3MLP(inputs, outputs, depth=depth, num_cells=WIDTH, outscale=outscale)

    prior = RSSMPriorV3(
        action_shape=(ACTIONS,),
        action_dim=ACTIONS,
        recurrent_model="block_gru",
        num_blocks=BLOCKS,
        unimix=0.01,
        **sizes,
    )
    posterior = RSSMPosteriorV3(obs_embed_dim=WIDTH, use_rms_norm=True, unimix=0.01, **sizes)
    rewards, bins = perceptron(features, BINS, 1, outscale=0.0), SymExpTwoHot(BINS)
    continues = perceptron(features, 1, 1)
    world_model = Sequential(
        Module(symlog, [("next", "observation")], [("next", "symlog_observation")]),
        Module(perceptron(INPUTS, None, DEPTH), [("next", "symlog_observation")], [("next", "encoded")]),
        RSSMRolloutV3(
            Module(
                prior, ["state", "belief", "action"], [("next", "prior_logits"), ("next", "state"), ("next", "belief")]
            ),
            Module(
                posterior, [("next", "belief"), ("next", "encoded")], [("next", "posterior_logits"), ("next", "state")]
            ),
            reset_key="is_init",
        ),
        Module(perceptron(features, INPUTS, DEPTH), there, [("next", "symlog_decoded")]),
        Module(symexp, [("next", "symlog_decoded")], [("next", "decoded")]),
        Module(rewards, there, [("next", "reward_logits")]),
        Module(bins, [("next", "reward_logits")], [("next", "reward")]),
        Module(continues, there, [("next", "continue_pred")]),
    )
    dreams = DreamerEnv(
        WorldModelWrapper(
            Module(prior, ["state", "belief", "action"], ["_", "state", "belief"]),
            Sequential(Module(rewards, here, ["reward_logits"]), Module(bins, ["reward_logits"], ["reward"])),
        ),
        prior_shape=(latent,),
        belief_shape=(MEMORY,),
    )
    dreams.observation_spec = Composite(state=Unbounded(latent), belief=Unbounded(MEMORY))
    dreams.state_spec = dreams.observation_spec.clone()
    dreams.action_spec, dreams.reward_spec = OneHot(ACTIONS, dtype=th.float32), Unbounded((1,))
    actor = DreamerV3DiscreteActor(features, ACTIONS, depth=DEPTH, num_cells=WIDTH)
    critic = Sequential(
        Module(perceptron(features, BINS, DEPTH, outscale=0.0), here, ["state_value_logits"]),
        Module(SymExpTwoHot(BINS), ["state_value_logits"], ["state_value"]),
    )
    model_loss = DreamerV3ModelLoss(
        world_model, num_reward_bins=BINS, kl_mode="separate", unimix=0.01, lambda_continue=1.0, detach_output=False
    )
    model_loss.set_keys(pixels="observation", reco_pixels="decoded")
    continuation = Sequential(
        Module(continues, here, ["continue_logits"]), Module(th.nn.Sigmoid(), ["continue_logits"], ["continuation"])
    )
    actor_loss = DreamerV3ActorLoss(
        actor, critic, dreams, continuation_model=continuation, imagination_horizon=HORIZON, use_reinforce=True
    )
    actor_loss.make_value_estimator(ValueEstimators.TDLambda, gamma=0.997, lmbda=0.95)
    value_loss = DreamerV3ValueLoss(
        critic, "two_hot", num_value_bins=BINS, actor_loss=actor_loss, slow_critic_regularization=1.0
    )
    learned = [*world_model.parameters(), *actor.parameters(), *value_loss.parameters()]
    stepper = DreamerV3OptimizationStepper(
        DreamerV3Loss(model_loss, actor_loss, value_loss),
        DreamerV3Optimizer(learned, warmup_steps=0),
        SoftUpdate(value_loss, tau=0.02),
        compile_train_step=False,
        cudagraph=False,
    )
    rows = BATCH, STEPS
    sample = TensorDict(
        {
            "state": th.zeros(*rows, latent),
            "belief": th.zeros(*rows, MEMORY),
            "action": th.eye(ACTIONS)[th.randint(ACTIONS, rows)],
            "is_init": th.zeros(*rows, 1, dtype=th.bool),
            "next": {
                "observation": th.randint(2, (*rows, INPUTS)).float(),
                "reward": th.rand(*rows, 1),
                "done": th.zeros(*rows, 1, dtype=th.bool),
                "terminated": th.zeros(*rows, 1, dtype=th.bool),
            },
        },
        rows,
    )
    return Peer(
        f"torchrl {importlib.metadata.version('torchrl')}, DreamerV3",
        sum(parameter.numel() for parameter in learned if parameter.requires_grad),
        BATCH * STEPS,
        BATCH * STEPS * HORIZON,
        lambda: stepper.step(None, sample.clone()),
    )


PEERS: dict[str, tuple[Callable[[], Peer], str]] = {
    "torchrl": (torchrl_dreamer_v3, "pip install --no-deps torchrl==0.14.1 'tensordict<0.15' pyvers"),
}
