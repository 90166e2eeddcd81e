"""The recurrent state-space model over whole sequences, with a backward pass of its own.

Autograd would form the gradient of every weight at every time step, as a product over the few sequences of a batch.
Here the loop backwards in time carries only what has to be carried, and each weight's gradient is one product over all
time steps afterwards. What is computed is what ``RSSMWorldModel.perceive`` and ``remember`` compute step by step.

Inside the loop, latents are stored classes first, (N, K, G): vector instructions then run over the groups.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch as th
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from sb3_dream.nn.distributions import draw

_aten = th.ops.aten
_EPS = 1e-5  # of nn.LayerNorm


class ScanWeights(NamedTuple):
    """
    :param memory: (2 H, M) from the memory to the hidden layers of the posterior and of the step
    :param posterior_scale: (H,) of the layer norm in front of the posterior
    :param posterior_shift: (H,)
    :param posterior: (G * K, H)
    :param posterior_bias: (G * K,)
    :param percept: (H, G * K) from the percept to the hidden layer of the step
    :param step_scale: (H,) of the layer norm of that layer
    :param step_shift: (H,)
    :param gru_input: (M, H)
    :param gru_input_bias: (M,) of both inputs of the GRU's hidden layer
    :param gru_memory: (J, M / J, M / J) block-diagonal
    :param gru_scale: (M,) of the layer norm of the GRU's hidden layer
    :param gru_shift: (M,)
    :param gates: (J, M / J, 3 M / J) block-diagonal: reset, candidate, update
    :param gates_bias: (J, 1, 3 M / J)
    """

    memory: th.Tensor
    posterior_scale: th.Tensor
    posterior_shift: th.Tensor
    posterior: th.Tensor
    posterior_bias: th.Tensor
    percept: th.Tensor
    step_scale: th.Tensor
    step_shift: th.Tensor
    gru_input: th.Tensor
    gru_input_bias: th.Tensor
    gru_memory: th.Tensor
    gru_scale: th.Tensor
    gru_shift: th.Tensor
    gates: th.Tensor
    gates_bias: th.Tensor


def scan(
    projected: th.Tensor, first: th.Tensor, uniform: th.Tensor, unimix: float, weights: ScanWeights
) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    """
    :param projected: (T, N, 2 H) what observations add to the posterior's hidden layer, and actions to the step's
    :param first: (N, M) memory before the first observation
    :param uniform: (T, N, G) random numbers in [0, 1) that the percepts are drawn with
    :param unimix: share of the uniform distribution in the posterior
    :param weights: of all layers
    :return: memories (T, N, M), percepts (T, N, G * K) with straight-through gradients, posterior logits (T, N, G * K)
    """
    return _Scan.apply(projected, first, uniform, unimix, *weights)


class _Scan(th.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, projected: th.Tensor, first: th.Tensor, uniform: th.Tensor, unimix: float, *tensors: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        w = ScanWeights(*tensors)
        length, batch, groups = uniform.shape
        hidden, size, blocks = w.step_scale.shape[0], first.shape[-1], w.gates.shape[0]
        classes = w.percept.shape[1] // groups
        posterior, bias = _classes_first(w.posterior, groups), _classes_first(w.posterior_bias, groups)
        percept = _classes_first(w.percept.t(), groups)

        new = projected.new_empty
        both = new(length, batch, 2 * hidden)
        memories = new(length, batch, size)
        drawn = projected.new_zeros(length, batch, classes, groups)
        probabilities, logits = new(length, batch, classes, groups), new(length, batch, classes * groups)
        joined = new(length - 1, batch, size)
        gates = new(length - 1, blocks, batch, 3 * size // blocks)
        memories[0] = first
        for t in range(length):
            memory = memories[t]
            th.addmm(projected[t], memory, w.memory.t(), out=both[t])
            seen = F.silu(F.layer_norm(both[t, :, :hidden], (hidden,), w.posterior_scale, w.posterior_shift, _EPS))
            th.addmm(bias, seen, posterior.t(), out=logits[t])
            th.softmax(logits[t].view(batch, classes, groups), 1, out=probabilities[t])
            mixed = probabilities[t].mul(1 - unimix).add_(unimix / classes)
            drawn[t].scatter_(1, draw(mixed, uniform[t, :, None], 1), 1.0)
            if t + 1 == length:
                break
            step = both[t, :, hidden:].addmm_(drawn[t].view(batch, -1), percept)
            moved = F.silu(F.layer_norm(step, (hidden,), w.step_scale, w.step_shift, _EPS))
            th.addmm(w.gru_input_bias, moved, w.gru_input.t(), out=joined[t])
            _blocks(joined[t], blocks).add_(th.bmm(_blocks(memory, blocks), w.gru_memory))
            kept = F.silu(F.layer_norm(joined[t], (size,), w.gru_scale, w.gru_shift, _EPS))
            th.baddbmm(w.gates_bias, _blocks(kept, blocks), w.gates, out=gates[t])
            reset, candidate, update = gates[t].chunk(3, -1)
            change = th.tanh(reset.sigmoid_() * candidate)
            th.lerp(_blocks(memory, blocks), change, update.sub_(1).sigmoid_(), out=_blocks(memories[t + 1], blocks))
        ctx.save_for_backward(both, memories, drawn, probabilities, joined, gates, *tensors)
        ctx.unimix = unimix
        return memories, _groups_first(drawn), _groups_first(logits.view_as(drawn))

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_memories: th.Tensor, d_percepts: th.Tensor, d_logits: th.Tensor
    ) -> tuple[th.Tensor | None, ...]:
        both, memories, drawn, probabilities, joined, gates, *tensors = ctx.saved_tensors
        w = ScanWeights(*tensors)
        length, batch, classes, groups = drawn.shape
        hidden, blocks = w.step_scale.shape[0], w.gates.shape[0]
        posterior, percept = _classes_first(w.posterior, groups), _classes_first(w.percept.t(), groups)
        seen = _Norm(both[..., :hidden], w.posterior_scale, w.posterior_shift)
        step = _Norm(both[:-1, :, hidden:], w.step_scale, w.step_shift)
        kept = _Norm(joined, w.gru_scale, w.gru_shift)
        d_percepts = d_percepts.view(length, batch, groups, classes).transpose(-1, -2)  # (T, N, K, G)
        d_logits = d_logits.view(length, batch, groups, classes).transpose(-1, -2).contiguous()
        d_both, d_joined, d_gates = th.zeros_like(both), th.empty_like(joined), th.empty_like(gates)
        carried = d_memories[-1].clone()  # (N, M) the gradient of memories[t + 1], then of memories[t]
        for t in reversed(range(length)):
            d_drawn = d_percepts[t]
            if t + 1 < length:
                reset, candidate, update = gates[t].chunk(3, -1)
                d_reset, d_candidate, d_update = d_gates[t].chunk(3, -1)
                change, following = th.tanh(reset * candidate), _blocks(carried, blocks)
                d_change = following * update
                th.mul(following, change - _blocks(memories[t], blocks), out=d_update)
                d_update.mul_(update).mul_(1 - update)
                carried = carried - _whole(d_change)
                d_change.mul_(1 - change.square_())
                th.mul(d_change, reset, out=d_candidate)
                th.mul(d_change, candidate, out=d_reset).mul_(reset).mul_(1 - reset)
                kept.backward(t, _whole(th.bmm(d_gates[t], w.gates.transpose(1, 2))), d_joined[t])
                before = th.bmm(_blocks(d_joined[t], blocks), w.gru_memory.transpose(1, 2))
                _blocks(carried, blocks).add_(before)
                step.backward(t, d_joined[t] @ w.gru_input, d_both[t, :, hidden:])
                d_drawn = th.addmm(d_drawn.reshape(batch, -1), d_both[t, :, hidden:], percept.t()).view_as(d_drawn)
                carried += d_memories[t]
            d_mixed = d_drawn * (1 - ctx.unimix)
            d_logits[t] += _aten._softmax_backward_data(d_mixed, probabilities[t], 1, d_mixed.dtype)
            seen.backward(t, d_logits[t].view(batch, -1) @ posterior, d_both[t, :, :hidden])
            carried = carried.addmm_(d_both[t], w.memory)
        # every weight's gradient, over all time steps at once
        rows = d_both[:-1, :, hidden:].flatten(0, 1)
        d_flat = d_logits.view(length * batch, -1)
        d_posterior = d_flat.t() @ seen.output.flatten(0, 1)
        d_percept = rows.t() @ drawn[:-1].flatten(2).flatten(0, 1)
        d_scaled, d_joined = d_gates.transpose(0, 1).flatten(1, 2), d_joined.flatten(0, 1)
        d_seen, d_step, d_kept = (norm.weight_gradients() for norm in (seen, step, kept))
        gradients = ScanWeights(
            memory=d_both.flatten(0, 1).t() @ memories.flatten(0, 1),
            posterior_scale=d_seen[0],
            posterior_shift=d_seen[1],
            posterior=_groups_first(d_posterior.t().view(-1, classes, groups)).t(),
            posterior_bias=_groups_first(d_flat.sum(0).view(classes, groups)),
            percept=_groups_first(d_percept.view(-1, classes, groups)),
            step_scale=d_step[0],
            step_shift=d_step[1],
            gru_input=d_joined.t() @ step.output.flatten(0, 1),
            gru_input_bias=d_joined.sum(0),
            gru_memory=th.bmm(_blocks(memories[:-1].flatten(0, 1), blocks).transpose(1, 2), _blocks(d_joined, blocks)),
            gru_scale=d_kept[0],
            gru_shift=d_kept[1],
            gates=th.bmm(_blocks(kept.output.flatten(0, 1), blocks).transpose(1, 2), d_scaled),
            gates_bias=d_scaled.sum(1, keepdim=True),
        )
        return d_both, carried, None, None, *gradients


class _Norm:
    """Layer norm and SiLU at all time steps, to be passed backwards one step at a time.

    :param x: (T, N, D) inputs
    :param scale: (D,)
    :param shift: (D,)
    """

    def __init__(self, x: th.Tensor, scale: th.Tensor, shift: th.Tensor) -> None:
        self.x, self.scale, self.shift = x.contiguous(), scale, shift
        self.normed, self.mean, self.rstd = th.native_layer_norm(self.x, scale.shape, scale, shift, _EPS)
        self.output = F.silu(self.normed)
        self.gradient = th.empty_like(self.x)  # of what was normalised

    def backward(self, t: int, gradient: th.Tensor, out: th.Tensor) -> None:
        """
        :param t: time step
        :param gradient: (N, D) of the output
        :param out: (N, D) that of the input, to be written
        """
        _aten.silu_backward.grad_input(gradient, self.normed[t], grad_input=self.gradient[t])
        out.copy_(self._backward(self.gradient[t], t, (True, False, False))[0])

    def _backward(self, gradient: th.Tensor, t: Any, which: tuple[bool, bool, bool]) -> tuple[th.Tensor, ...]:
        x, mean, rstd = self.x[t], self.mean[t], self.rstd[t]
        return _aten.native_layer_norm_backward(
            gradient, x, self.scale.shape, mean, rstd, self.scale, self.shift, which
        )

    def weight_gradients(self) -> tuple[th.Tensor, ...]:
        """
        :return: those of scale and shift, (D,) each, once all time steps are through
        """
        return self._backward(self.gradient, slice(None), (False, True, True))[1:]


def _blocks(x: th.Tensor, blocks: int) -> th.Tensor:
    """(N, M) to a view (J, N, M / J)."""
    return x.unflatten(-1, (blocks, -1)).transpose(0, 1)


def _whole(x: th.Tensor) -> th.Tensor:
    """(J, N, M / J) to (N, M)."""
    return x.transpose(0, 1).flatten(1)


def _classes_first(weight: th.Tensor, groups: int) -> th.Tensor:
    """(G * K, ...) to (K * G, ...)."""
    return weight.unflatten(0, (groups, -1)).transpose(0, 1).flatten(0, 1)


def _groups_first(x: th.Tensor) -> th.Tensor:
    """(..., K, G) to (..., G * K)."""
    return x.transpose(-1, -2).flatten(-2)
