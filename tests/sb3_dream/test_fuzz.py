"""Whatever spaces and hyperparameters it is given, DREAM trains, or says when it is made what is wrong."""

from __future__ import annotations

import inspect
import os
import re
from typing import Any, get_args, get_type_hints

import numpy as np
import torch as th
from gymnasium import spaces
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_dream.actor_critic import ActorCritic
from sb3_dream.dream import DREAM
from sb3_dream.world_models import WORLD_MODELS, CompactWorldModel
from tests.sb3_dream.tiny import NETWORKS, RSSM, Anything, tiny

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,  # a run that is to find something new says how many it may try
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
    least, most = max(int(info.min), -(2**62)), min(int(info.max), 2**62 - 1)  # or Gymnasium's own sample() overflows
    ends = sorted({least, max(least, -3), 0, 1, 5, most})
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


def is_refused_in_vectors(space: spaces.Space) -> bool:
    """By Stable-Baselines3, before DREAM sees it."""
    nested = isinstance(space, spaces.Dict) and any(isinstance(part, spaces.Dict) for part in space.values())
    return nested or isinstance(space, (spaces.Text, spaces.Tuple))


def trains_or_refuses(make: Any) -> None:
    try:
        model = make()
    except TypeError as error:
        assert re.search("unexpected keyword argument|expected|a world model is a name or", str(error))
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
        env = (
            one
            if count == 1 or is_refused_in_vectors(observation)
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
    "imagination_horizon": st.integers(1, 5),
    "dream_length": st.integers(1, 12),
    "dream_length_end": st.none() | st.integers(1, 12),
    "initial_fraction": st.floats(0, 1),
    "before_reward_fraction": st.floats(0, 1),
    "novelty_coef": st.floats(0, 2),
    "reward_fraction": st.floats(0, 1),
    "terminal_fraction": st.floats(0, 1),
    "reward_batch_size": st.integers(0, 3),
    "rare_rewards": st.booleans(),
    "overlap_updates": st.booleans(),
    "n_epochs": st.integers(1, 2),
    "seed": st.none() | st.integers(0, 9),
}
ELSEWHERE = {"policy", "env", "self", "device", "_init_setup_model"}
NAMES = sorted(inspect.signature(DREAM.__init__).parameters.keys() - ELSEWHERE)


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


anything = st.sampled_from(
    [None, -1, 0, 1, 3, 0.0, 0.9, 1.0, 1.5, 1e300, float("nan"), float("inf"), "2", True, False, "lstm", [], (4,), (0,)]
)


def choices(hint: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(hint))


def arguments_of(kind: type, least: int) -> st.SearchStrategy[dict[str, Any]]:
    """Some of its keyword arguments with values that should do, and at most one that may be anything."""
    hints = get_type_hints(vars(kind)["__init__"])
    known = {each.name for each in inspect.signature(kind).parameters.values() if each.kind is each.KEYWORD_ONLY}
    assert len(known) >= least
    usual = {int: st.integers(1, 3), float: st.floats(0, 0.9), bool: st.booleans()}
    plain = known - {"net_arch"}
    fair = {name: usual[hints[name]] if hints[name] in usual else choices(hints[name]) for name in plain}
    wild = st.dictionaries(st.sampled_from([*sorted(known), "colour"]), anything, max_size=1)
    return st.builds(dict.__or__, st.fixed_dictionaries({}, optional=fair), st.just({}) | wild)


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(WORLD_MODELS)))
    sizes = {"rssm": RSSM, "recurrent": NETWORKS["world_model_kwargs"], "compact": {"memory": 4}}[name]
    return {
        "world_model": name,
        "world_model_kwargs": {**sizes, **draw(arguments_of(WORLD_MODELS[name], 5))},
        "actor_critic_kwargs": {"net_arch": [8], **draw(arguments_of(ActorCritic, 6))},
    }


@fuzz
@given(networks(), st.booleans())
def test_networks(kwargs: dict[str, Any], continuous: bool) -> None:
    actions = spaces.Box(-1.0, 2.0, (2,)) if continuous else spaces.Discrete(3)
    env = DummyVecEnv([lambda: Anything(spaces.Box(-1.0, 1.0, (3,)), actions)])
    trains_or_refuses(lambda: tiny(env, policy_kwargs=kwargs))


optimizers = [getattr(th.optim, name) for name in ("SGD", "AdamW", "LBFGS", "SparseAdam", "Optimizer", "RMSprop")]
POLICY = {
    "optimizer_class": st.sampled_from(optimizers) | odd,
    "optimizer_kwargs": st.dictionaries(st.sampled_from(["lr", "eps", "weight_decay", "fused"]), odd, max_size=2) | odd,
    "world_model": st.sampled_from([None, {}, dict, "compact", CompactWorldModel]) | odd,
    "world_model_kwargs": odd,
    "actor_critic_kwargs": odd,
    "colour": odd,
}


@st.composite
def policy_arguments(draw: st.DrawFn) -> dict[str, Any]:
    return {name: draw(POLICY[name]) for name in draw(st.sets(st.sampled_from(sorted(POLICY)), max_size=2))}


@fuzz
@given(policy_arguments())
def test_policy_arguments(kwargs: dict[str, Any]) -> None:
    env = DummyVecEnv([lambda: Anything(spaces.Box(-1.0, 1.0, (3,)), spaces.Discrete(3))])
    trains_or_refuses(lambda: tiny(env, policy_kwargs={"world_model_kwargs": {"memory": 4}, **kwargs}))
