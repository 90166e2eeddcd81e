"""Networks over columns: what is computed faster is what is meant."""

import pytest
import torch as th
import torch.nn.functional as F

from sb3_dream.nn.grid import Block, Grid, GridNet, Layout, together


def _plainly(block: Block, x: th.Tensor) -> th.Tensor:
    """What a block over columns is."""
    assert block.context is not None
    y = block.norm(x)
    quarter = y.shape[-1] // 4
    left = F.pad(y[:, :-1, :quarter], (0, 0, 1, 0))
    right = F.pad(y[:, 1:, quarter : 2 * quarter], (0, 0, 0, 1))
    mixed = th.cat((left, right, y[..., 2 * quarter :]), -1)
    return x + block.down(F.silu(block.up(mixed) + block.context(y.mean(1, keepdim=True))))


@pytest.mark.parametrize("width", [8, 10])
def test_a_block_sees_its_neighbours_and_the_mean(width: int) -> None:
    th.manual_seed(0)
    block = Block(width, columns=5, hidden=12).double()
    x = th.randn(3, 5, width, dtype=th.float64, requires_grad=True)
    results = []
    for run in (block, lambda x: _plainly(block, x)):
        y = run(x)
        results.append([y, *th.autograd.grad((y * th.arange(y.numel()).view_as(y)).sum(), [x, *block.parameters()])])
    for ours, theirs in zip(*results, strict=True):
        assert th.allclose(ours, theirs, rtol=1e-10)
    before = x.detach().clone()
    with th.no_grad():  # where a block overwrites what nobody else needs
        assert th.allclose(block(x), results[1][0], rtol=1e-10)
    assert th.equal(x, before)


def test_taken_apart_before_or_after_being_joined() -> None:
    first = Layout(9, (Grid(1, 2, 3),)) + Layout(2)
    second = Layout(6, (Grid(0, 2, 3, column_major=True),))
    x, y, loose = th.randn(4, first.size), th.randn(4, second.size), th.randn(4, 2)
    whole = (first + second + Layout(2)).split(th.cat((x, y, loose), -1))
    parts = together(first.split(x), second.split(y), Layout(2).split(loose))
    assert all(a is not None and b is not None and th.equal(a, b) for a, b in zip(whole, parts, strict=True))
    net = GridNet(first, 8, 1)
    assert th.equal(net(x), net(first.split(x)))
    assert together() == (None, None)
