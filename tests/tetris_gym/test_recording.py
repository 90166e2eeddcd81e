"""Films: what was filmed can be read back."""

import sys
import threading

import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled

from tetris_gym import recording
from tetris_gym.recording import FilmWriter, record


def moving_square(count: int, height: int = 40, width: int = 60) -> list[np.ndarray]:
    frames = []
    for i in range(count):
        frame = np.full((height, width, 3), (10, 20, 30), dtype=np.uint8)
        frame[5 + i : 15 + i, 2 * i : 2 * i + 10] = (200, 40 + i, 60)
        frames.append(frame)
    return frames


def read_gif(path) -> list[tuple[np.ndarray, int]]:
    image_module = pytest.importorskip("PIL.Image")
    with image_module.open(path) as image:
        frames = []
        for i in range(image.n_frames):
            image.seek(i)
            frames.append((np.asarray(image.convert("RGB")), image.info["duration"]))
        return frames


def test_gif_gives_the_frames_back(tmp_path):
    frames = moving_square(5)
    assert record(iter(frames), tmp_path / "film.gif", fps=10) == tmp_path / "film.gif"
    read = read_gif(tmp_path / "film.gif")
    assert len(read) == 5
    for (picture, duration), frame in zip(read, frames, strict=True):
        assert np.abs(picture.astype(int) - frame).max() == 0
        assert duration == 100


def test_gif_merges_frames_that_stay(tmp_path):
    first, second, third = moving_square(3)
    record([first, first.copy(), first, second, third, third], tmp_path / "film.gif", fps=30)
    assert [duration for _, duration in read_gif(tmp_path / "film.gif")] == [100, 30, 70]


def test_gif_repeats_for_ever(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    record(moving_square(2), tmp_path / "film.gif")
    with image_module.open(tmp_path / "film.gif") as image:
        assert image.info["loop"] == 0


def test_gif_keeps_time_at_high_rates(tmp_path):
    """Viewers slow down pictures under 20 ms, so the rate has a limit, but no time is lost below it."""
    record(moving_square(12), tmp_path / "film.gif", fps=40)
    durations = [duration for _, duration in read_gif(tmp_path / "film.gif")]
    assert sum(durations) == 300
    assert min(durations) >= 20


@pytest.mark.parametrize("shape", [(40, 60), (41, 61)])
def test_mp4_has_every_frame(tmp_path, shape):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "film.mp4"
    with FilmWriter(path, fps=20) as film:
        for frame in moving_square(6, *shape):
            film.add(frame, repeat=5)
    count, seconds = ffmpeg.count_frames_and_secs(str(path))
    assert count == 30
    assert seconds == pytest.approx(1.5, abs=0.1)
    reader = ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    assert (height, width) == (shape[0] + shape[0] % 2, shape[1] + shape[1] % 2)
    first = np.frombuffer(next(reader), dtype=np.uint8).reshape(height, width, 3)
    reader.close()
    assert np.abs(first[30:38, 30:50].astype(int) - (10, 20, 30)).max() < 12


def test_bad_arguments_say_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match=r"\.mp4 or \.gif"):
        FilmWriter(tmp_path / "film.avi")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        FilmWriter(tmp_path / "nowhere" / "film.gif")
    with pytest.raises(ValueError, match="fps"):
        FilmWriter(tmp_path / "film.gif", fps=0)
    with pytest.raises(ValueError, match="no frame"):
        record([], tmp_path / "film.gif")
    assert not (tmp_path / "film.gif").exists()


def test_bad_frames_say_what_was_expected(tmp_path):
    with FilmWriter(tmp_path / "film.gif") as film:
        film.add(np.zeros((4, 6, 3), dtype=np.uint8))
        with pytest.raises(ValueError, match="shape of the first"):
            film.add(np.zeros((6, 4, 3), dtype=np.uint8))
        with pytest.raises(ValueError, match="uint8"):
            film.add(np.zeros((4, 6, 3)))
        with pytest.raises(ValueError, match="height, width, 3"):
            film.add(np.zeros((4, 6), dtype=np.uint8))


class _CountingEncoder:
    """Counts frames; the third one may fail."""

    def __init__(self, path, fps, shape):
        self.frames, self.threads = 0, set()

    def add(self, frame, repeat):
        self.threads.add(threading.current_thread())
        self.frames += repeat
        if self.frames == 3 and self.fails:
            raise OSError("the disk is full")

    def close(self):
        encoders.append(self)


encoders: list[_CountingEncoder] = []


@pytest.mark.parametrize("fails", [False, True])
def test_ctrl_c_and_full_disks_end_a_film_in_order(tmp_path, monkeypatch, fails):
    """Encoding happens in another thread: an interrupt, which only the main thread gets, cuts no frame in two."""
    monkeypatch.setattr(recording, "_Gif", _CountingEncoder)
    monkeypatch.setattr(_CountingEncoder, "fails", fails, raising=False)
    with pytest.raises(OSError if fails else KeyboardInterrupt), FilmWriter(tmp_path / "film.gif") as film:
        for frame in moving_square(20):
            film.add(frame)
        raise KeyboardInterrupt
    encoder = encoders.pop()
    assert encoder.frames == (3 if fails else 20)
    assert threading.main_thread() not in encoder.threads


@pytest.mark.parametrize(("module", "name"), [("imageio_ffmpeg", "film.mp4"), ("PIL", "film.gif")])
def test_missing_package_is_named_before_the_game(tmp_path, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyNotInstalled, match="pip install"):
        FilmWriter(tmp_path / name)
