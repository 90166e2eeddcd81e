"""What is installed: the wheel, the pins, and one pygame only."""

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import gymnasium as gym
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_holds_packages_types_and_hyperparameters(unpacked: Path) -> None:
    assert {path.name for path in unpacked.iterdir() if path.suffix != ".dist-info"} == {"sb3_dream", "tetris_gym"}
    for package in ("sb3_dream", "tetris_gym"):
        assert (unpacked / package / "py.typed").is_file()
        shipped = {path.relative_to(unpacked) for path in (unpacked / package).rglob("*.py")}
        assert shipped == {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
    configs, ours = unpacked / "sb3_dream" / "zoo_configs", ROOT / "zoo_configs"
    assert {path.relative_to(configs) for path in configs.rglob("*")} == {
        path.relative_to(ours) for path in ours.rglob("*")
    }


def test_the_wheel_works_outside_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    script = (
        "import sb3_dream.zoo as zoo; zoo.register(); "
        "print(zoo.config_file('dream', 'TetrisDirect-v0')); print(zoo.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(line.startswith(str(unpacked)) for line in done.stdout.splitlines())


def test_the_announced_registration_exists(unpacked: Path) -> None:
    (info,) = unpacked.glob("*.dist-info")
    (entry,) = [
        entry
        for entry in metadata.PathDistribution(info).entry_points
        if entry.group == "gymnasium.envs" and entry.name == "__root__"
    ]
    entry.load()()
    assert {"TetrisDirect-v0", "TetrisPlacement-v0"} <= set(gym.registry)


def test_the_console_script_is_the_module(unpacked: Path) -> None:
    from sb3_dream import __main__

    (info,) = unpacked.glob("*.dist-info")
    (script,) = metadata.PathDistribution(info).entry_points.select(group="console_scripts")
    assert script.name == "sb3-dream"
    assert script.load() is __main__.main


def test_every_requirement_is_pinned_to_a_version_that_it_allows() -> None:
    extras = PROJECT["optional-dependencies"]
    tested = [*PROJECT["dependencies"], *extras["play"], *extras["box2d"], *extras["docs"], *extras["dev"]]
    pinned = pins()
    for requirement in map(Requirement, tested):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_there_is_only_one_pygame() -> None:
    installed = {canonicalize_name(found.metadata["Name"]) for found in metadata.distributions()}
    assert len(installed & {"pygame", "pygame-ce"}) <= 1
    assert {"pygame"}.isdisjoint(pins())


def test_the_version_is_the_packages() -> None:
    import sb3_dream

    assert sb3_dream.__version__ == metadata.version("sb3-dream")
