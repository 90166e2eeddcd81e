"""Matrix products in float32 with the whole vector width of AMD's processors.

MKL, which multiplies PyTorch's matrices, leaves half of a vector of AVX-512 unused where the processor is not Intel's.
oneDNN, which PyTorch brings along as well, uses all of it, but multiplies only for those who allow it to round to
bfloat16. It does not round on processors without matrix units (AMX), so there the permission costs no accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch as th

_SETTING: Any = getattr(th.backends.mkldnn, "matmul", None)  # of oneDNN; PyTorch 2.8 has none


@contextmanager
def wide_products(worthwhile: bool = True) -> Iterator[None]:
    """Inside the ``with`` block oneDNN multiplies, where that is faster and as exact; in other threads, too.

    Each of its products takes some 10 us to begin, and those of new shapes a millisecond, and a megabyte to keep what
    was compiled: it is not for the few rows of acting, nor for shapes that do not come again.
    ``torch.backends.mkldnn.set_flags(False)`` switches oneDNN off.

    :param worthwhile: False for a block that changes nothing
    """
    with _permitted() if worthwhile and _help() else nullcontext():
        yield


@contextmanager
def _permitted() -> Iterator[None]:
    before = _SETTING.fp32_precision
    _SETTING.fp32_precision = "bf16"
    try:
        yield
    finally:
        _SETTING.fp32_precision = before


@cache
def _help() -> bool:
    if _SETTING is None or not hasattr(th.cpu, "get_capabilities"):
        return False
    processor = th.cpu.get_capabilities()
    half_used = bool(processor.get("avx512_f")) and "AMD" in processor.get("cpu_name", "")
    return half_used and th.backends.mkl.is_available() and th.backends.mkldnn.is_available() and _exact()


def _exact() -> bool:
    """Whether oneDNN keeps digits that bfloat16 does not have."""
    number = 1 + 2**-12
    matrix = th.full((128, 128), number)
    with _permitted():
        product = matrix @ matrix
    return th.allclose(product, th.full_like(product, 128 * number**2), rtol=1e-6)
