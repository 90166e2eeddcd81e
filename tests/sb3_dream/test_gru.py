"""The GRU with its own backward pass is PyTorch's."""

import pytest
import torch as th
from torch import nn

from sb3_dream.nn.gru import gru


@pytest.mark.parametrize("length", [1, 2, 7])
def test_computes_what_the_layer_computes_and_its_gradients(length: int) -> None:
    th.manual_seed(0)
    layer = nn.GRU(5, 6).double()
    results = []
    for run in (lambda x, h: gru(layer, x, h), lambda x, h: layer(x, h[None])[0]):
        th.manual_seed(1)
        inputs = th.randn(length, 3, 5, dtype=th.float64, requires_grad=True)
        first = th.randn(3, 6, dtype=th.float64, requires_grad=True)
        outputs = run(inputs, first)
        loss = (outputs * th.randn_like(outputs)).sum()
        results.append([outputs, *th.autograd.grad(loss, [inputs, first, *layer.parameters()])])
    for ours, theirs in zip(*results, strict=True):
        assert th.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_keeps_nothing_where_no_gradient_is_asked_for() -> None:
    layer, inputs, first = nn.GRU(5, 6), th.randn(2, 3, 5), th.randn(3, 6)
    with th.no_grad():
        assert not gru(layer, inputs, first).requires_grad
