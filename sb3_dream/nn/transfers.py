"""Numbers that cross between the processor and a GPU without either waiting for the other."""

from __future__ import annotations

import numpy as np
import torch as th


def to_device(values: np.ndarray | th.Tensor, device: th.device) -> th.Tensor:
    """
    :param values: an array, or a tensor anywhere
    :param device: where it is to be; a GPU takes it from the processor after all that it was told before
    :return: on the device; the same memory if it is there already
    """
    tensor = th.as_tensor(values)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Later:
    """
    A tensor that the processor will look at later, when a GPU has long computed it.

    :param tensor: where it is computed
    """

    def __init__(self, tensor: th.Tensor) -> None:
        self._tensor, self._copied = tensor.detach(), None
        if tensor.device.type == "cuda":
            self._tensor = th.empty_like(self._tensor, device="cpu", pin_memory=True)
            self._tensor.copy_(tensor.detach(), non_blocking=True)
            self._copied = th.cuda.Event()
            self._copied.record()

    def get(self) -> th.Tensor:
        """
        :return: on the processor; this waits for what was told to the GPU before the tensor, not for what was after it
        """
        if self._copied is not None:
            self._copied.synchronize()
        return self._tensor
