"""Adam, except for matrices that are to take orthogonal steps: with those a world model learns faster.

A matrix's gradient, averaged over updates, is dominated by a few directions; Adam goes on in those. Here the average is
replaced by the nearest matrix with orthonormal rows or columns, so that all directions are learned alike (Jordan et al.
2024, *Muon: An optimizer for hidden layers in neural networks*). ``torch.optim.Muon`` does so for matrices alone, and
one by one; matrices of one shape together take a third of its time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch as th

from sb3_dream.nn.wide_products import wide_products

_SMALLEST = 16  # rows and columns of a matrix that is treated as one; others are heads of a few numbers, or tables
_LARGE = 128  # rows or columns from which on products are long enough for oneDNN
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the iteration, from the same source: all singular values go near to 1


class MuonAdam(th.optim.Adam):
    """
    :param params: parameters, or groups of them. A group's ``matrix_step`` is the root mean square of the change of a
        matrix's entries, in learning rates; without one, or with 0, the group is Adam's
    :param lr: learning rate
    :param momentum: of the average of a matrix's gradients
    :param iterations: of the orthogonalisation
    :param adam: arguments of Adam; ``weight_decay`` is decoupled for matrices

    Its attribute ``run`` is what calls :func:`orthogonal`, with its arguments: :meth:`Graphs.run
    <sb3_dream.nn.graphs.Graphs.run>` where that is recorded.
    :raises ValueError: if one makes no sense
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        momentum: float = 0.95,
        iterations: int = 5,
        **adam: Any,
    ) -> None:
        if not (0 <= momentum < 1 and iterations > 0):
            raise ValueError(
                "expected a momentum of at least 0 and below 1, and a positive number of iterations, got "
                f"{momentum} and {iterations}"
            )
        self.momentum, self.iterations = momentum, iterations
        self.run: Callable[..., Any] = _call
        super().__init__(params, lr, **adam)

    @th.no_grad()
    def step(self, closure: Any = None) -> Any:
        """
        :param closure: computes the loss again, or None
        :return: its result
        """
        loss = None
        if closure is not None:
            with th.enable_grad():
                loss = closure()
        gradients: dict[th.Tensor, th.Tensor | None] = {}
        for group in self.param_groups:
            if not group.get("matrix_step"):
                continue
            alike = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.ndim == 2 and min(parameter.shape) >= _SMALLEST:
                    alike[parameter.shape].append(parameter)
            for matrices in alike.values():
                self._step_matrices(matrices, group["lr"] * group["matrix_step"], group["lr"] * group["weight_decay"])
                gradients |= {matrix: matrix.grad for matrix in matrices}
        for matrix in gradients:  # which Adam then passes over
            matrix.grad = None
        super().step()
        for matrix, gradient in gradients.items():
            matrix.grad = gradient
        return loss

    def _step_matrices(self, matrices: list[th.Tensor], change: float | th.Tensor, decay: float | th.Tensor) -> None:
        """
        :param matrices: all of one shape, (A, B) each
        :param change: root mean square of it
        :param decay: share of the entries that goes
        """
        gradients, averages = [], []
        for matrix in matrices:
            gradient = matrix.grad
            assert gradient is not None
            state = self.state[matrix]
            if "momentum_buffer" not in state:  # Adam cannot load a state without a step
                state.update(step=th.zeros(()), momentum_buffer=th.zeros_like(matrix))
            state["step"] += 1
            gradients.append(gradient)
            averages.append(state["momentum_buffer"])
        th._foreach_mul_(averages, self.momentum)
        th._foreach_add_(averages, gradients)
        ahead = th._foreach_add(gradients, averages, alpha=self.momentum)  # Nesterov's: one step ahead
        size = max(matrices[0].shape)
        with wide_products(size >= _LARGE):
            steps = self.run(orthogonal, th.stack(ahead), self.iterations)  # (n, A, B)
        root = size**0.5  # one over the root mean square of such a step
        th._foreach_mul_(matrices, 1 - decay)
        th._foreach_sub_(matrices, (steps * (change * root)).unbind())


def _call(function: Callable[..., Any], *inputs: Any) -> Any:
    return function(*inputs)


def orthogonal(matrices: th.Tensor, iterations: int) -> th.Tensor:
    """
    :param matrices: (n, A, B)
    :param iterations: of Newton and Schulz's method, five of which bring singular values to between 0.7 and 1.2
    :return: (n, A, B) about the nearest matrices with orthonormal rows, or columns where there are fewer of those
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = th.baddbmm(x, th.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
