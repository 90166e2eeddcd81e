"""Whatever spaces and hyperparameters it is given, DREAM trains, or says when it is made what is wrong."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_dream.dream import DREAM
from tests.sb3_dream.tiny import NETWORKS, RSSM, Anything, tiny

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    print_blob=True,
)
SEVERAL = {**NETWORKS, "world_model": "rssm", "world_model_kwargs": RSSM}

shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)
floats = st.sampled_from([np.float16, np.float32, np.float64])
whole = st.sampled_from([np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16])


@st.composite
def boxes(draw: st.DrawFn, bounded: bool = False) -> spaces.Box:
    shape = draw(shapes)
    if draw(st.booleans()):
        kind = draw(floats)
        ends = [-1e4, -3.0, -1.0, 0.0, 0.5, 1.0, 7.0, 1e4]
        low, high = sorted(draw(st.lists(st.sampled_from(ends), min_size=2, max_size=2, unique=True)))
        if not bounded:
            low, high = draw(st.sampled_from([(low, high), (-np.inf, high), (low, np.inf), (-np.inf, np.inf)]))
        return spaces.Box(low, high, shape, kind)
    kind = draw(whole)
    info = np.iinfo(kind)
    ends = sorted({int(info.min), max(int(info.min), -3), 0, 1, 5, int(info.max)})
    i, j = sorted(draw(st.lists(st.integers(0, len(ends) - 1), min_size=2, max_size=2, unique=True)))
    return spaces.Box(ends[i], ends[j], shape, kind)


numbers = st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 5), st.integers(-3, 3))
several = st.one_of(
    st.lists(st.integers(1, 4), min_size=1, max_size=3).map(spaces.MultiDiscrete),
    st.just(spaces.MultiDiscrete([[2, 1], [3, 2]])),
    st.just(spaces.MultiDiscrete([3, 2], start=[1, -2])),
)
bits = st.sampled_from([spaces.MultiBinary(1), spaces.MultiBinary(5), spaces.MultiBinary([2, 3])])
images = st.builds(
    lambda shape: spaces.Box(0, 255, shape, np.uint8),
    st.sampled_from([(3, 9, 12), (36, 36, 1), (8, 8, 3), (36, 40, 3)]),
)
parts = st.one_of(boxes(), boxes(), numbers, several, bits)
flat = st.dictionaries(st.sampled_from("abcd"), st.one_of(parts, images), min_size=1, max_size=3).map(spaces.Dict)
nested = st.dictionaries(st.sampled_from("ab"), st.one_of(flat, parts), min_size=1, max_size=2).map(spaces.Dict)
others = st.sampled_from([spaces.Tuple((spaces.Discrete(2),)), spaces.Text(3), spaces.Box(0, 1, (0,))])
observation_spaces = st.one_of(parts, parts, flat, nested, images, others)
action_spaces = st.one_of(boxes(True), boxes(), numbers, several, bits, others)


def is_nested(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Dict) and any(isinstance(part, spaces.Dict) for part in space.values())


def trains_or_refuses(make: Any) -> None:
    try:
        model = make()
    except TypeError as error:
        assert "unexpected keyword argument" in str(error), "as Python says it"
        event("refused")
        return
    except (ValueError, AssertionError) as error:
        assert len(str(error)) > 20, "the message says what is wrong"
        event("refused")
        return
    event("trained")
    model.learn(24)
    assert model.num_timesteps >= 24
    assert all(th.isfinite(each).all() for each in model.policy.state_dict().values())
    action, _ = model.predict(model.observation_space.sample())
    assert model.action_space.contains(action)


@fuzz
@given(observation_spaces, action_spaces, st.integers(1, 2), st.integers(0, 3))
def test_spaces(observation: spaces.Space, action: spaces.Space, count: int, seed: int) -> None:
    def make() -> DREAM:
        vector = isinstance(observation, spaces.Dict) or len(observation.shape or ()) == 3
        one = Anything(observation, action)
        # Stable-Baselines3 refuses nested spaces in a vector before DREAM sees them
        env = (
            one
            if count == 1 or is_nested(observation)
            else DummyVecEnv([lambda: Anything(observation, action)] * count)
        )
        return tiny(env, policy_kwargs=SEVERAL if vector else NETWORKS, seed=seed)

    trains_or_refuses(make)


odd = st.sampled_from(
    [None, -1, 0, 1, 2, 3, 0.0, 0.5, 1.0, 1.5, 1e-9, -0.5, 1e300, float("nan"), float("inf"), "2", True, []]
)
TINY = {
    "learning_rate": st.floats(0, 1e-2),
    "train_freq": st.sampled_from([1, 3, (2, "step"), (1, "episode")]),
    "n_minibatches": st.integers(1, 9),
    "sequence_length": st.integers(2, 30),
    "batch_size": st.integers(1, 5),
    "buffer_size": st.integers(2, 60),
    "learning_starts": st.integers(0, 30),
    "seed": st.none() | st.integers(0, 9),
}
NAMES = [
    *("actor_learning_rate", "critic_learning_rate", "reward_fraction", "reward_batch_size", "train_ratio", "tau"),
    *("gradient_steps", "model_warmup", "policy_delay", "imagination_horizon", "imagination_starts", "gamma"),
    *("gae_lambda", "ent_coef", "n_epochs", "clip_range", "normalize_advantage", "actor_gradient", "use_masking"),
    *("target_update_interval", "max_grad_norm", "epsilon_start", "epsilon_end", "epsilon_decay", "action_noise"),
    *("stats_window_size", "replay_buffer_kwargs", "policy_kwargs", *TINY),
]


@st.composite
def hyperparameters(draw: st.DrawFn) -> dict[str, Any]:
    found = {name: draw(values) for name, values in TINY.items() if draw(st.booleans())}
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True)):
        found[name] = draw(odd)
    return found


@fuzz
@given(hyperparameters(), st.booleans())
def test_hyperparameters(arguments: dict[str, Any], continuous: bool) -> None:
    actions = spaces.Box(-1.0, 2.0, (2,)) if continuous else spaces.Discrete(3)
    env = DummyVecEnv([lambda: Anything(spaces.Box(-1.0, 1.0, (3,)), actions)] * 2)
    trains_or_refuses(lambda: tiny(env, **arguments))


network = st.sampled_from([None, -1, 0, 1, 2, 3, 0.5, float("nan"), "2", [], (4,), (0,), (-1,)])


@fuzz
@given(
    st.sampled_from(["recurrent", "rssm", "compact"]),
    st.dictionaries(
        st.sampled_from(
            ["width", "depth", "memory", "blocks", "groups", "classes", "hidden", "layers", "cell", "unimix"]
        ),
        network,
        max_size=2,
    ),
    st.dictionaries(
        st.sampled_from(["net_arch", "width", "depth", "share_trunk", "critic_bins", "unimix", "colour"]),
        network,
        max_size=2,
    ),
)
def test_networks(world_model: str, model_kwargs: dict[str, Any], actor_critic_kwargs: dict[str, Any]) -> None:
    sizes = {"rssm": RSSM, "recurrent": NETWORKS["world_model_kwargs"], "compact": {"memory": 4}}[world_model]
    kwargs = {
        "world_model": world_model,
        "world_model_kwargs": {**sizes, **model_kwargs},
        "actor_critic_kwargs": {"net_arch": [8], **actor_critic_kwargs},
    }
    env = DummyVecEnv([lambda: Anything(spaces.Box(-1.0, 1.0, (3,)), spaces.Discrete(3))])
    trains_or_refuses(lambda: tiny(env, policy_kwargs=kwargs))
