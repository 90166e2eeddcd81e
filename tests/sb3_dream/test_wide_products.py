"""oneDNN multiplies in updates where that is faster: on AMD's processors, and where it does not round."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch as th

from sb3_dream.nn import wide_products as module
from sb3_dream.nn.wide_products import wide_products
from tests.sb3_dream.tiny import parameters, tiny

pytestmark = pytest.mark.skipif(not hasattr(th.backends.mkldnn, "matmul"), reason="an older PyTorch")
AMD = {"cpu_name": "AMD EPYC 9755 128-Core Processor", "avx512_f": True}


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """One that can be changed until it is asked for, on which oneDNN does not round."""
    found: dict[str, object] = dict(AMD)
    monkeypatch.setattr(th.cpu, "get_capabilities", lambda: found, raising=False)
    for library in (th.backends.mkl, th.backends.mkldnn):
        monkeypatch.setattr(library, "is_available", lambda: True)
    monkeypatch.setattr(module, "_exact", lambda: True)
    module._help.cache_clear()
    yield found
    module._help.cache_clear()


def setting() -> str:
    return th.backends.mkldnn.matmul.fp32_precision


def test_what_was_set_before_comes_back(processor: dict[str, object]) -> None:
    before = setting()
    with pytest.raises(RuntimeError, match="inside"), wide_products():
        assert setting() == "bf16" != before
        raise RuntimeError("inside")
    assert setting() == before


@pytest.mark.parametrize("other", [{"cpu_name": "Intel(R) Xeon(R)"}, {"avx512_f": False}, {"cpu_name": ""}])
def test_other_processors_multiply_as_before(processor: dict[str, object], other: dict[str, object]) -> None:
    processor |= other
    before = setting()
    with wide_products():
        assert setting() == before


def test_where_products_would_be_rounded_nothing_changes(
    processor: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(th.cpu, "get_capabilities", lambda: processor, raising=False)
    full = th.full
    monkeypatch.setattr(th, "full", lambda *args: full(*args).bfloat16().float())
    before = setting()
    with wide_products():
        assert setting() == before


@pytest.mark.parametrize("rows", [1, 40, 2_560])
def test_products_are_as_exact(rows: int) -> None:
    generator = th.Generator().manual_seed(0)
    left, right = (th.randn(*shape, generator=generator) for shape in ((rows, 300), (300, 70)))
    with wide_products():
        product = left @ right
    th.testing.assert_close(product, (left.double() @ right.double()).float(), rtol=1e-5, atol=1e-4)


def test_updates_use_them_and_acting_does_not(processor: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("CartPole-v1")
    seen: dict[str, set[str]] = {"perceive": set(), "observe": set()}
    world_model = model.policy.world_model
    for name, settings in seen.items():
        call = getattr(world_model, name)
        monkeypatch.setattr(
            world_model, name, lambda *a, call=call, settings=settings: settings.add(setting()) or call(*a)
        )
    before = setting()
    model.learn(40)
    assert seen["observe"] == {"bf16"}
    assert before in seen["perceive"]
    model.predict(model.env.reset())
    assert setting() == before
    assert all(parameter.isfinite().all() for parameter in parameters(model).values())
