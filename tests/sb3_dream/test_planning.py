"""Planning: sequences of actions tried in the world model before each action."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch as th

from benchmarks import planning as benchmark
from sb3_dream.actor_critic import ActorCritic
from sb3_dream.agent import DREAMAgent
from sb3_dream.dream import DREAM
from sb3_dream.planning import Planner, without_planning
from sb3_dream.player import Player
from sb3_dream.world_models.base import State
from tests.sb3_dream.test_imagination import CONTINUOUS, DISCRETE, Point, actor_critic
from tests.sb3_dream.tiny import Walk, tiny

GAMMA = 0.9


def at(*places: float) -> State:
    return State(th.zeros(len(places), 1), th.tensor(places)[:, None])


def with_values(networks: ActorCritic) -> ActorCritic:
    """A critic starts with 0 everywhere: here is one that prefers some places to others."""
    th.nn.init.normal_(networks.slow_critic[1].weight, std=10.0)
    return networks


@th.no_grad()
def best_first_action(model: Point, networks: ActorCritic, place: float, horizon: int) -> int:
    """By trying all sequences."""

    def worth(sequence: tuple[int, ...]) -> float:
        state, total, weight = at(place), 0.0, 1.0
        for action in sequence:
            encoded = DISCRETE.encode(th.tensor([[float(action)]]))
            before, state = state, model.step(state, encoded)
            outcome = model.outcome(before, encoded, state)
            total += weight * float(outcome.reward)
            weight *= GAMMA * float(outcome.continues)
        return total + weight * float(networks.slow_values(model.features(state)))

    return max(product((0, 1), repeat=horizon), key=worth)[0]


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_it_plays_what_trying_all_sequences_finds_best(horizon: int) -> None:
    places = [-2.0, -0.5, 0.5, 1.4, 1.6, 2.0, 2.6]
    model, networks = Point(DISCRETE), with_values(actor_critic(DISCRETE))
    best = [best_first_action(model, networks, place, horizon) for place in places]
    assert len(set(best)) == 2
    chosen = Planner(512, horizon, GAMMA).choose(model, networks, at(*places), None)
    assert chosen.squeeze(-1).tolist() == best


def test_it_steers_continuous_actions() -> None:
    """The best place is 2, and actions go as far as 1."""
    chosen = Planner(512, 1, GAMMA).choose(Point(CONTINUOUS), actor_critic(CONTINUOUS), at(1.5, 1.8, 2.4), None)
    th.testing.assert_close(chosen.squeeze(-1), th.tensor([0.5, 0.2, -0.4]), atol=0.05, rtol=0)


def test_it_begins_with_an_allowed_action_and_believes_the_model_about_later_ones() -> None:
    """The model forbids left below 0 only; right is better there, but what the environment says goes first."""
    model, networks, states = Point(DISCRETE, mask_size=2), actor_critic(DISCRETE), at(-1.0, 1.0)
    planner = Planner(64, 3, GAMMA)
    assert planner.choose(model, networks, states, None).squeeze(-1).tolist() == [1.0, 1.0]
    only_left = th.tensor([[True, False], [True, False]])
    assert planner.choose(model, networks, states, only_left).squeeze(-1).tolist() == [0.0, 0.0]


def play(player: Player | DREAMAgent, env: Walk, steps: int = 30) -> list[int]:
    """What it does in a corridor, from the same random numbers each time."""
    th.manual_seed(5)
    act = player if isinstance(player, Player) else player.get_action
    actions, ended = [], True
    for _ in range(steps):
        if ended:
            observation, _ = env.reset()
            player.reset()
        actions.append(int(act(observation)))
        observation, _, terminated, truncated, _ = env.step(actions[-1])
        ended = terminated or truncated
    return actions


def played_by(model: DREAM) -> list[int]:
    env = Walk()
    return play(Player(model, env), env)


def played_by_agent(path: Path) -> list[int]:
    return play(DREAMAgent(path, device="cpu"), Walk())


def test_a_saved_model_plans_as_before_and_can_be_told_to(tmp_path: Path) -> None:
    tiny(Walk(), plan_samples=7, plan_horizon=3).save(tmp_path / "planning")
    planning = DREAM.load(tmp_path / "planning", device="cpu")
    assert planning.policy.planner == Planner(7, 3, planning.gamma)
    acting = DREAM.load(tmp_path / "planning", device="cpu", plan_samples=0)
    assert acting.policy.planner is None
    acting.save(tmp_path / "acting")
    told = DREAM.load(tmp_path / "acting", device="cpu", plan_samples=7)
    assert played_by(acting) != played_by(planning) == played_by(told)
    assert played_by_agent(tmp_path / "planning") == played_by(planning)
    assert played_by_agent(tmp_path / "acting") == played_by(acting)


def test_planning_can_be_left_out_for_a_while() -> None:
    planning = tiny(Walk(), plan_samples=7)
    planner = planning.policy.planner
    with pytest.raises(RuntimeError, match="a game that fails"), without_planning(planning):
        assert played_by(planning) == played_by(tiny(Walk()))
        raise RuntimeError("a game that fails")
    assert planning.policy.planner is planner is not None
    assert played_by(planning) != played_by(tiny(Walk()))


def test_it_plans_where_it_predicts_and_not_where_it_collects() -> None:
    """So training is the same, planning or not."""
    models = [tiny(Walk(), plan_samples=samples).learn(40) for samples in (0, 4)]
    acting, planning = (model.policy.state_dict() for model in models)
    assert all(th.equal(acting[name], planning[name]) for name in acting)


@pytest.mark.parametrize(
    "wrong", [{"plan_samples": -1}, {"plan_samples": 2.5}, {"plan_horizon": 0}, {"plan_samples": "all"}]
)
def test_wrong_numbers_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a whole number, at least"):
        tiny(Walk(), **wrong)


def test_a_planner_refuses_what_no_plan_can_be() -> None:
    for wrong in ((0, 1, 0.9), (1, 0, 0.9), (1, 1, 1.1), ("1", 1, 0.9)):
        with pytest.raises(ValueError, match="expected positive whole numbers and a discount between 0 and 1"):
            Planner(*wrong)  # type: ignore[arg-type]


def test_the_benchmark_plays_whole_games(tmp_path: Path) -> None:
    tiny("TetrisDirect-v0").save(tmp_path / "model.zip")
    found = benchmark.measure(tmp_path / "model.zip", samples=2, horizon=3, games=2, n_envs=2)
    assert (found["actor"], found["samples"], found["horizon"], len(found["returns"])) == ("perceptron", 2, 3, 2)
    assert found["milliseconds_an_action"] > 0
    assert benchmark.row(found).count("|") == benchmark.HEADER.splitlines()[0].count("|")


@pytest.mark.parametrize(("shared", "kind"), [(True, "sight"), ("critic", "critic-sight"), (False, "columns")])
def test_the_benchmark_tells_actors_apart(shared: bool | str, kind: str) -> None:
    networks = {"world_model_kwargs": {"width": 8, "shared_sight": shared}, "actor_critic_kwargs": {"width": 8}}
    assert benchmark.kind_of_actor(DREAM("TetrisDirect-v0", buffer_size=100, policy_kwargs=networks)) == kind
