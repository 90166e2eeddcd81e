"""Training on "meta", where tensors hold no numbers: what looks at one raises, as does what mixes devices."""

from __future__ import annotations

from sb3_dream.policies import DreamPolicy


def to_meta(policy: DreamPolicy) -> None:
    """Move a policy there, and what its optimisers know of it."""
    before = dict(policy.named_parameters())
    policy.to("meta")
    moved = {before[name]: parameter for name, parameter in policy.named_parameters()}
    for optimizer in (policy.world_model_optimizer, policy.actor_critic_optimizer):
        for group in optimizer.param_groups:
            group["params"] = [moved[parameter] for parameter in group["params"]]
        for parameter in list(optimizer.state):
            state = optimizer.state.pop(parameter)
            # Adam counts its steps on the processor
            moved_state = {name: value if value.ndim == 0 else value.to("meta") for name, value in state.items()}
            optimizer.state[moved[parameter]] = moved_state
