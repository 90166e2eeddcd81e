"""Networks over columns: what is computed faster is what is meant."""

import pytest
import torch as th
import torch.nn.functional as F

from sb3_dream.nn.grid import Block, ColumnLogits, Grid, GridNet, Layout, together


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
    second = Layout(6, (Grid(0, 1, 3, depth=2),))
    x, y, loose = th.randn(4, first.size), th.randn(4, second.size), th.randn(4, 2)
    whole = (first + second + Layout(2)).split(th.cat((x, y, loose), -1))
    parts = together(first.split(x), second.split(y), Layout(2).split(loose))
    assert all(a is not None and b is not None and th.equal(a, b) for a, b in zip(whole, parts, strict=True))
    net = GridNet(first, 8, 1)
    assert th.equal(net(x), net(first.split(x)))
    assert together() == (None, None)


def test_a_grid_split_and_joined() -> None:
    grid = Grid(0, rows=2, columns=3, depth=2)
    values = th.arange(24.0).view(2, 12)
    columns = grid.split(values)
    assert columns[0, 1].tolist() == [2, 3, 8, 9]  # the second column: both of its cells, from the top
    assert th.equal(grid.join(columns), values)


def test_a_number_for_each_value_comes_from_its_own_column() -> None:
    layout = Layout(12, (Grid(0, rows=2, columns=3, depth=2),))
    logits = ColumnLogits(layout, width=5)
    features = th.randn(4, 3, 5)
    features[:, 0] = features[:, 2]
    columns = layout.split(logits(features)).columns
    assert columns is not None
    assert th.allclose(columns[:, 0], columns[:, 2])
    assert not th.allclose(columns[:, 0], columns[:, 1])
