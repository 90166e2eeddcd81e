"""Spaces as tensors: what every kind of observation and action becomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_dream.spaces import ActionSpec, ObservationSpec, Segment

IMAGE_SPACE = spaces.Box(0, 255, (3, 8, 9), np.uint8)


def batch(space: spaces.Space, leading: tuple[int, ...]) -> Any:
    """Samples of a space with leading dimensions, as tensors."""
    space.seed(0)
    samples = [space.sample() for _ in range(int(np.prod(leading)))]
    if isinstance(space, spaces.Dict):
        return {
            key: th.as_tensor(np.stack([sample[key] for sample in samples])).unflatten(0, leading) for key in samples[0]
        }
    return th.as_tensor(np.stack(samples)).unflatten(0, leading)


@pytest.mark.parametrize(
    ("space", "segments"),
    [
        (spaces.Box(-1.0, 1.0, (4,), np.float32), (Segment("continuous", 0, 4),)),
        (spaces.Box(-1.0, 1.0, (2, 3), np.float32), (Segment("continuous", 0, 6),)),
        (spaces.Box(0, 1, (5,), np.int8), (Segment("bits", 0, 5),)),
        (spaces.Box(0, 1, (5,), np.bool_), (Segment("bits", 0, 5),)),
        (spaces.Box(0, 7, (5,), np.int64), (Segment("continuous", 0, 5),)),
        (spaces.Box(0.0, 1.0, (5,), np.float32), (Segment("continuous", 0, 5, unit=True),)),
        (
            spaces.Box(np.array([-1.0, 0.0, 0.0]), np.array([1.0, 1.0, 2.0])),
            (Segment("continuous", 0, 1), Segment("continuous", 1, 1, unit=True), Segment("continuous", 2, 1)),
        ),
        (spaces.MultiBinary(6), (Segment("bits", 0, 6),)),
        (spaces.MultiBinary((2, 3)), (Segment("bits", 0, 6),)),
        (spaces.Discrete(4), (Segment("onehot", 0, 4),)),
        (spaces.Discrete(4, start=-2), (Segment("onehot", 0, 4),)),
        (spaces.MultiDiscrete([2, 3]), (Segment("onehot", 0, 2), Segment("onehot", 2, 3))),
        (spaces.MultiDiscrete([2, 3], start=[1, -1]), (Segment("onehot", 0, 2), Segment("onehot", 2, 3))),
    ],
)
@pytest.mark.parametrize("leading", [(7,), (2, 3)])
def test_vectors(space: spaces.Space, segments: tuple[Segment, ...], leading: tuple[int, ...]) -> None:
    spec = ObservationSpec(space)
    assert spec.segments == segments
    assert spec.image_shapes == {}
    raw = batch(space, leading)
    encoded = spec.encode(raw)
    assert set(encoded) == {"vector"}
    vector = encoded["vector"]
    assert vector.dtype == th.float32
    assert vector.shape == (*leading, spec.vector_size) == (*leading, spec.layout.size)
    for segment in segments:
        part = vector[..., segment.slice]
        if segment.kind == "onehot":
            assert ((part == 0) | (part == 1)).all()
            assert (part.sum(-1) == 1).all()
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        th.testing.assert_close(vector, raw.float().reshape(vector.shape))


def test_one_hots_are_where_they_belong() -> None:
    encoded = ObservationSpec(spaces.Discrete(4, start=-2)).encode(th.tensor([-2, 1]))["vector"]
    assert encoded.argmax(-1).tolist() == [0, 3]
    encoded = ObservationSpec(spaces.MultiDiscrete([2, 3], start=[1, -1])).encode(th.tensor([[2, -1]]))["vector"]
    assert encoded.tolist() == [[0, 1, 1, 0, 0]]


def test_images() -> None:
    spec = ObservationSpec(IMAGE_SPACE)
    assert spec.image_shapes == {"image": (3, 8, 9)}
    assert spec.vector_size == 0
    raw = batch(IMAGE_SPACE, (2, 5))
    encoded = spec.encode(raw)
    assert set(encoded) == {"image"}
    th.testing.assert_close(encoded["image"], raw.float() / 255)


def test_dictionaries() -> None:
    space = spaces.Dict(
        {
            "camera": IMAGE_SPACE,
            "gear": spaces.Discrete(3),
            "lamps": spaces.MultiBinary(2),
            "speed": spaces.Box(-9.0, 9.0, (2,), np.float32),
        }
    )
    spec = ObservationSpec(space)
    assert spec.image_shapes == {"camera": (3, 8, 9)}
    assert spec.segments == (Segment("onehot", 0, 3), Segment("bits", 3, 2), Segment("continuous", 5, 2))
    raw = batch(space, (4,))
    encoded = spec.encode(raw)
    assert set(encoded) == {"camera", "vector"}
    assert encoded["vector"][:, :3].argmax(-1).tolist() == raw["gear"].tolist()
    th.testing.assert_close(encoded["vector"][:, 3:5], raw["lamps"].float())
    th.testing.assert_close(encoded["vector"][:, 5:], raw["speed"])


def test_layout() -> None:
    layout = {
        "binary": True,
        "grids": [{"start": 0, "rows": 4, "columns": 3}],
        "codes": [{"start": 15, "bits": 2}, {"start": 12, "bits": 3}],
    }
    spec = ObservationSpec(spaces.Box(0.0, 1.0, (20,), np.float32), layout)
    assert spec.segments == (
        Segment("bits", 0, 12),
        Segment("code", 12, 3),
        Segment("code", 15, 2),
        Segment("bits", 17, 3),
    )
    assert (spec.layout.columns, spec.layout.channels, spec.layout.loose_size) == (3, 4, 8)
    columns, loose = spec.layout.split(th.arange(20.0)[None])
    assert columns is not None and loose is not None
    assert columns[0, 1].tolist() == [1, 4, 7, 10]  # the second column, from the top
    assert loose[0].tolist() == list(range(12, 20))


def test_layout_without_binary_keeps_the_space() -> None:
    space = spaces.Box(-1.0, 1.0, (8,), np.float32)
    spec = ObservationSpec(space, {"grids": [{"start": 2, "rows": 2, "columns": 3}]})
    assert spec.segments == (Segment("continuous", 0, 8),)
    assert spec.layout.columns == 3
    assert ObservationSpec(space).layout.columns == 1


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"binary": True, "colours": []}, r"unknown.*colours"),
        ({"grids": [{"start": 2, "rows": 3, "columns": 3}]}, "more than the observation's 10 values"),
        ({"binary": True, "codes": [{"start": 0, "bits": 3}, {"start": 2, "bits": 3}]}, "overlap"),
        ({"binary": True, "codes": [{"start": 8, "bits": 3}]}, "leave its 10 values"),
        ({"binary": True, "codes": [{"start": 30, "bits": 3}]}, "leave its 10 values"),
        ({"binary": True, "codes": [{"start": -1, "bits": 3}]}, "leave its 10 values"),
        ({"binary": True, "codes": [{"start": 4, "bits": -3}]}, "overlap"),
        ({"codes": [{"start": 0, "bits": 3}]}, "must say 'binary'"),
        (
            {"grids": [{"start": 0, "rows": 1, "columns": 3}, {"start": 3, "rows": 1, "columns": 4}]},
            "same number of columns",
        ),
    ],
)
def test_layouts_that_do_not_fit(layout: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObservationSpec(spaces.Box(0.0, 1.0, (10,), np.float32), layout)


@pytest.mark.parametrize("space", [IMAGE_SPACE, spaces.Dict({"a": spaces.Discrete(3)})])
def test_layouts_are_for_flat_observations(space: spaces.Space) -> None:
    with pytest.raises(ValueError, match="one flat observation"):
        ObservationSpec(space, {"binary": True})


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3))),
        spaces.Dict({"inner": spaces.Dict({"a": spaces.Discrete(2)})}),
    ],
)
def test_observations_that_are_not_supported(space: spaces.Space) -> None:
    with pytest.raises(ValueError, match="unsupported observation space"):
        ObservationSpec(space)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.MultiDiscrete([[2, 3], [4, 2]]), "has 2 dimensions, but a MultiDiscrete must have one"),
        (spaces.Box(0, 1, (0,)), "is empty"),
        (spaces.Dict(), "is empty"),
        (spaces.Dict(a=spaces.Box(0, 1, (2, 0))), "observation space 'a' .*is empty"),
    ],
)
def test_observations_without_a_form(space: spaces.Space, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObservationSpec(space)


def test_an_image_may_not_take_the_vectors_name() -> None:
    with pytest.raises(ValueError, match="'vector'"):
        ObservationSpec(spaces.Dict({"vector": IMAGE_SPACE, "speed": spaces.Box(-1.0, 1.0, (2,), np.float32)}))


@pytest.mark.parametrize(
    ("space", "choices", "size"),
    [
        (spaces.Discrete(5), (5,), 5),
        (spaces.MultiDiscrete([2, 3]), (2, 3), 5),
        (spaces.MultiBinary(3), (2, 2, 2), 6),
        (spaces.Box(-2.0, 2.0, (4,), np.float32), (), 4),
        (spaces.Box(-2.0, 2.0, (2, 3), np.float32), (), 6),
    ],
)
def test_actions(space: spaces.Space, choices: tuple[int, ...], size: int) -> None:
    spec = ActionSpec(space)
    assert spec.choices == choices
    assert spec.vector_size == size
    assert spec.continuous == isinstance(space, spaces.Box)
    if spec.continuous:
        stored = 2 * th.rand(2, 3, size) - 1
        th.testing.assert_close(spec.encode(stored), stored)
        return
    stored = th.stack([th.randint(n, (2, 3)) for n in choices], -1).float()
    encoded = spec.encode(stored)
    assert encoded.shape == (2, 3, size)
    parts = encoded.split(choices, -1)
    assert all((part.sum(-1) == 1).all() for part in parts)
    assert th.equal(th.stack([part.argmax(-1) for part in parts], -1).float(), stored)


GRIDS = [{"start": 0, "rows": 4, "columns": 3}]


def test_actions_about_cells() -> None:
    layout = {"grids": GRIDS, "actions": {"rows": 4, "columns": 3, "depth": 2}}
    spec = ActionSpec(spaces.Discrete(24), layout)
    columns, loose = spec.layout.split(spec.encode(th.tensor([[(1 * 3 + 2) * 2 + 1]])))
    assert columns is not None and loose is None
    assert columns[0].nonzero().tolist() == [[2, 1 * 2 + 1]]  # the last column, its second cell, the second action
    assert ActionSpec(spaces.Discrete(24), {"grids": GRIDS}).layout.columns == 1


@pytest.mark.parametrize(
    "layout",
    [
        {"actions": {"rows": 4, "columns": 3, "depth": 2}},
        {"grids": GRIDS, "actions": {"rows": 4, "columns": 3}},
        {"grids": GRIDS, "actions": {"rows": 3, "columns": 4, "depth": 2}},
    ],
)
def test_actions_that_are_not_about_the_cells(layout: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="in as many columns as its grids"):
        ActionSpec(spaces.Discrete(24), layout)


def test_actions_about_cells_are_choices() -> None:
    with pytest.raises(ValueError, match="one choice each"):
        ActionSpec(spaces.Box(-1.0, 1.0, (24,)), {"grids": GRIDS, "actions": {"rows": 4, "columns": 3, "depth": 2}})


def test_actions_that_are_not_supported() -> None:
    with pytest.raises(ValueError, match="unsupported action space"):
        ActionSpec(spaces.Dict({"a": spaces.Discrete(2)}))
    with pytest.raises(ValueError, match="must have one"):
        ActionSpec(spaces.MultiDiscrete([[2, 3], [4, 2]]))
    with pytest.raises(ValueError, match="must have one dimension"):
        ActionSpec(spaces.MultiBinary([2, 3]))
    with pytest.raises(ValueError, match="is empty"):
        ActionSpec(spaces.Box(0, 1, (0,)))
