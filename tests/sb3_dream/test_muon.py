"""Steps with orthogonal matrices."""

import copy
from typing import Any

import pytest
import torch as th
from torch import nn

from sb3_dream.nn.muon import MuonAdam, orthogonal
from tests.sb3_dream.tiny import Walk, tiny


@pytest.mark.parametrize("shape", [(16, 16), (16, 40), (40, 16)])
def test_singular_values_go_near_to_one_and_singular_vectors_stay(shape: tuple[int, int]) -> None:
    th.manual_seed(0)
    matrices = th.randn(3, *shape)
    u, _, v = th.linalg.svd(matrices, full_matrices=False)
    values = u.mT @ orthogonal(matrices, iterations=5) @ v.mT
    diagonal = values.diagonal(dim1=-2, dim2=-1)
    assert diagonal.min() > 0.65 and diagonal.max() < 1.25
    assert th.allclose(values, th.diag_embed(diagonal), atol=1e-4)


def learned(matrix_step: float | None, steps: int = 1, weight_decay: float = 0.0) -> tuple[nn.Module, nn.Module]:
    """A network before and after; without a matrix_step, by Adam."""
    th.manual_seed(0)
    network = nn.Sequential(nn.Linear(24, 32), nn.Linear(32, 2))
    before, inputs = copy.deepcopy(network), th.randn(64, 24)
    groups = [{"params": network.parameters(), "matrix_step": matrix_step, "weight_decay": weight_decay}]
    kind = th.optim.Adam if matrix_step is None else MuonAdam
    chosen = kind(groups, lr=1e-2, eps=1e-5, fused=True)
    for _ in range(steps):
        chosen.zero_grad()
        (network(inputs) - inputs[:, :2]).square().mean().backward()
        chosen.step()
    return before, network


def test_a_matrix_changes_by_so_many_learning_rates_and_all_else_as_with_adam() -> None:
    before, after = learned(3.0)
    _, with_adam = learned(None)
    change = after[0].weight - before[0].weight
    rank = 2  # that of the gradient: two outputs have only two directions
    assert change.square().mean().sqrt().item() == pytest.approx(3e-2 * (rank / 24) ** 0.5, rel=0.25)
    for name in ("0.bias", "1.weight", "1.bias"):
        assert th.equal(after.get_parameter(name), with_adam.get_parameter(name))


def test_no_matrix_step_is_adam() -> None:
    _, without = learned(0.0, steps=3)
    _, with_adam = learned(None, steps=3)
    assert all(th.equal(a, b) for a, b in zip(without.parameters(), with_adam.parameters(), strict=True))


def test_weight_decay_of_matrices_is_decoupled() -> None:
    _, without = learned(2.0)
    before, after = learned(2.0, weight_decay=0.5)
    assert th.allclose(after[0].weight, without[0].weight - 1e-2 * 0.5 * before[0].weight)


def test_goes_on_from_a_saved_state() -> None:
    def update(network: nn.Module, optimizer: MuonAdam, times: int) -> None:
        for step in range(times):
            optimizer.zero_grad()
            network(th.full((4, 20), 0.1 + step) + th.eye(4, 20)).square().mean().backward()
            optimizer.step()

    th.manual_seed(0)
    network = nn.Linear(20, 20)
    optimizer = MuonAdam([{"params": network.parameters(), "matrix_step": 2.0}])
    update(network, optimizer, 3)
    twin = copy.deepcopy(network)
    other = MuonAdam([{"params": twin.parameters(), "matrix_step": 1.0}], lr=0.5)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    update(network, optimizer, 2)
    update(twin, other, 2)
    assert all(th.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))


def test_gradients_are_left_and_parameters_without_one_stay() -> None:
    used, unused = nn.Parameter(th.eye(20)), nn.Parameter(th.eye(20))
    optimizer = MuonAdam([{"params": [used, unused], "matrix_step": 2.0}])
    used.square().sum().backward()
    optimizer.step()
    assert th.equal(used.grad, 2 * th.eye(20))
    assert not th.equal(used, th.eye(20)) and th.equal(unused, th.eye(20))


def test_computes_the_loss_again_where_asked() -> None:
    parameter = nn.Parameter(th.eye(20))

    def closure() -> th.Tensor:
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert MuonAdam([{"params": [parameter], "matrix_step": 2.0}]).step(closure) == 20


@pytest.mark.parametrize("wrong", [{"momentum": 1.0}, {"iterations": 0}])
def test_refuses_arguments_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected a momentum of at least 0 and below 1"):
        MuonAdam([nn.Parameter(th.eye(20))], **wrong)


@pytest.mark.parametrize("steps", [(2.0, 0.0), (0.0, 2.0), (0.0, 0.0)])
def test_only_networks_that_ask_for_it_take_orthogonal_steps(steps: tuple[float, float]) -> None:
    networks = {
        "world_model_kwargs": {"width": 16, "matrix_step": steps[0]},
        "actor_critic_kwargs": {"net_arch": [16, 16], "matrix_step": steps[1]},
    }
    policy = tiny(Walk(), policy_kwargs=networks).learn(40).policy
    kinds = [
        {"momentum_buffer" in state for state in optimizer.state.values()}
        for optimizer in (policy.world_model_optimizer, policy.actor_critic_optimizer)
    ]
    assert kinds == [{True, False} if step else {False} for step in steps]


@pytest.mark.parametrize("networks", ["world_model_kwargs", "actor_critic_kwargs"])
def test_networks_refuse_negative_steps(networks: str) -> None:
    with pytest.raises(ValueError, match="matrix_step must be a finite number of at least 0, not -1"):
        tiny(Walk(), policy_kwargs={networks: {"matrix_step": -1}})


@pytest.mark.parametrize(("given", "found"), [(None, (1e-5, True, None)), ({"foreach": True}, (1e-8, None, True))])
def test_arguments_that_are_given_take_the_place_of_all_defaults(given: Any, found: tuple[Any, ...]) -> None:
    optimizer = tiny(Walk(), policy_kwargs={"optimizer_kwargs": given}).policy.world_model_optimizer
    assert isinstance(optimizer, MuonAdam)
    assert tuple(optimizer.param_groups[0][name] for name in ("eps", "fused", "foreach")) == found


def test_refuses_to_divide_by_nothing() -> None:
    with pytest.raises(ValueError, match="eps must be above 0, or a gradient of 0 is divided by 0"):
        tiny(Walk(), policy_kwargs={"optimizer_kwargs": {"eps": 0}})


@pytest.mark.parametrize("value", [1e300, float("inf"), float("nan")])
def test_refuses_numbers_that_parameters_cannot_hold(value: float) -> None:
    with pytest.raises(ValueError, match="weight_decay must be a finite number that float32 has, not"):
        tiny(Walk(), policy_kwargs={"optimizer_kwargs": {"weight_decay": value}})
