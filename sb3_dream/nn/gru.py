"""``nn.GRU`` over whole sequences on a CPU, with a backward pass of its own.

Autograd passes each of a step's many small operations backwards for itself, and forms the weights' gradient at every
step. Here what a step's gates pass on is computed for all steps at once, the loop backwards in time carries only what
has to be carried, and the weights' gradient is one product.
"""

from __future__ import annotations

from typing import Any

import torch as th
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable


def gru(layer: nn.GRU, inputs: th.Tensor, first: th.Tensor) -> th.Tensor:
    """
    :param layer: a single one, that has biases
    :param inputs: (T, N, I)
    :param first: (N, H) the output before the first step
    :return: (T, N, H) the outputs, as the layer itself computes them
    """
    if first.device.type != "cpu":
        return layer(inputs, first[None].contiguous())[0]
    of_input, of_output, input_bias, output_bias = layer.all_weights[0]
    return _Scan.apply(F.linear(inputs, of_input, input_bias), first, of_output, output_bias)


class _Scan(th.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: th.Tensor, first: th.Tensor, weight: th.Tensor, bias: th.Tensor) -> th.Tensor:
        (length, batch, gates), size = projected.shape, first.shape[-1]  # (T, N, 3 H): what the inputs give
        outputs = projected.new_empty(length + 1, batch, size)
        hidden = projected.new_empty(length, batch, gates)  # what the last output adds to the gates
        opened = projected.new_empty(length, batch, 2 * size)  # reset and update
        candidates = projected.new_empty(length, batch, size)
        outputs[0] = first
        steps = zip(projected, outputs[:-1], outputs[1:], hidden, opened, candidates, strict=True)
        for given, before, after, added, both, candidate in steps:
            th.addmm(bias, before, weight.t(), out=added)
            reset, update = th.add(given[:, : 2 * size], added[:, : 2 * size], out=both).sigmoid_().chunk(2, -1)
            th.addcmul(given[:, 2 * size :], reset, added[:, 2 * size :], out=candidate)
            candidate.mul_(2).sigmoid_().mul_(2).sub_(1)  # a tanh, which PyTorch computes more slowly
            th.lerp(candidate, before, update, out=after)
        ctx.save_for_backward(outputs, hidden, opened, candidates, weight)
        return outputs[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: th.Tensor) -> tuple[th.Tensor, ...]:
        outputs, hidden, opened, candidates, weight = ctx.saved_tensors
        length, _, size = candidates.shape
        reset, update = opened.chunk(2, -1)
        # how much of an output's gradient reaches what the candidate's tanh and the gates' sigmoids are taken of
        to_candidate = (1 - update) * (1 - candidates.square())  # (T, N, H)
        to_reset = to_candidate * hidden[..., 2 * size :] * reset * (1 - reset)
        to_update = (outputs[:-1] - candidates) * update * (1 - update)
        to_hidden = th.stack((to_reset, to_update, to_candidate * reset), 2)  # (T, N, 3, H)
        d_hidden = th.empty_like(to_hidden)
        gradients = th.empty_like(candidates)  # of the outputs, by all that follows
        carried = th.zeros_like(candidates[0])
        for t in reversed(range(length)):
            th.add(d_outputs[t], carried, out=gradients[t])
            th.mul(gradients[t, :, None], to_hidden[t], out=d_hidden[t])
            carried = th.addmm(gradients[t] * update[t], d_hidden[t].flatten(1), weight)
        d_hidden = d_hidden.flatten(2)  # (T, N, 3 H)
        d_projected = th.cat((d_hidden[..., : 2 * size], gradients * to_candidate), -1)
        d_weight = d_hidden.flatten(0, 1).t() @ outputs[:-1].flatten(0, 1)
        return d_projected, carried, d_weight, d_hidden.sum((0, 1))
