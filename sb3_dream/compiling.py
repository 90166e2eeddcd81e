"""``compile=True``: what an update consists of, compiled by ``torch.compile``."""

from __future__ import annotations

import warnings

import torch as th

from sb3_dream.policies import DreamPolicy

_STEPS = {
    "world_model": ("observe", "observe_rewarded", "advance"),
    "actor_critic": ("actions", "evaluate", "slow_values"),
}


def compile_steps(policy: DreamPolicy) -> None:
    """
    Compile the methods that take most of an update's time, each when it is first called. What they compute is the same
    but for rounding, and for random numbers where these are drawn by compiled code.

    Where there is no compiler, this warns in one line and changes nothing.

    :param policy: whose world model and actor-critic to compile, on the device where they will stay
    """
    missing = _missing(policy.device)
    if missing:
        warnings.warn(f"compile=True changes nothing: {missing}", stacklevel=2)
        return
    for part, names in _STEPS.items():
        module = getattr(policy, part)
        for name in names:
            setattr(module, name, th.compile(getattr(module, name)))


def _missing(device: th.device) -> str:
    """What there is not, and how to get it."""
    # imported when needed: the compiler takes a second to import
    if device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            get_cpp_compiler()
        except Exception as error:  # of PyTorch's own kinds, which change
            return f"there is no C++ compiler; install g++ or clang, or name one in CXX ({type(error).__name__})"
    elif device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            return "there is no Triton; install the package triton"
    return ""
