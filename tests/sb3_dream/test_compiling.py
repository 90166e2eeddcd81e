"""``compile=True``: the same learning, and one clear line where there is no compiler.

Code is traced and taken apart here but not translated by a C++ compiler, which would take minutes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch as th

from sb3_dream.dream import DREAM
from tests.sb3_dream.tiny import MaskedWalk, parameters, tiny


def learned(compile: bool) -> dict[str, th.Tensor]:
    return parameters(tiny(MaskedWalk(), compile=compile, reward_batch_size=2).learn(40))


def test_compiled_code_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def traced(function: object) -> object:
        names.append(function.__name__)  # type: ignore[attr-defined]
        return compiler(function)

    compiler = partial(th.compile, backend="aot_eager")
    monkeypatch.setattr(th, "compile", traced)
    expected, found = learned(compile=False), learned(compile=True)
    assert names == ["observe", "observe_rewarded", "advance", "actions", "evaluate", "slow_values"]
    assert found.keys() == expected.keys()
    for name, parameter in expected.items():
        th.testing.assert_close(found[name], parameter, rtol=1e-4, atol=1e-5)


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_for_one() -> str:
        raise RuntimeError("nothing found")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", look_for_one)
    with pytest.warns(UserWarning, match=r"^compile=True changes nothing: there is no C\+\+ compiler; install"):
        model = tiny(MaskedWalk(), compile=True)
    assert "advance" not in vars(model.policy.world_model)
    assert model.learn(20)._n_updates > 0


def test_a_model_that_is_compiled_is_saved_and_loaded_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(th, "compile", lambda function: function)
    tiny(MaskedWalk(), compile=True).save(tmp_path / "model.zip")
    assert DREAM.load(tmp_path / "model.zip", device="cpu").compile
