"""Films of frames, as .mp4 or .gif, written frame by frame: a long game needs no more memory than a short one."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class _Encoder(Protocol):
    def add(self, frame: Pixels, repeat: int) -> None: ...

    def close(self) -> None: ...


class _Mp4:
    def __init__(self, path: Path, fps: float, shape: tuple[int, ...]) -> None:
        import imageio_ffmpeg  # type: ignore[import-untyped]

        # H.264 stores colour for 2 x 2 pixels, so an odd edge is doubled
        self._pad = ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0))
        size = (shape[1] + shape[1] % 2, shape[0] + shape[0] % 2)
        self._sink: Generator[None, Any, None] = imageio_ffmpeg.write_frames(
            str(path), size, fps=fps, codec="libx264", macro_block_size=2, quality=8, ffmpeg_log_level="error"
        )
        self._sink.send(None)

    def add(self, frame: Pixels, repeat: int) -> None:
        data = np.ascontiguousarray(np.pad(frame, self._pad, mode="edge"))
        for _ in range(repeat):
            self._sink.send(data)

    def close(self) -> None:
        self._sink.close()


class _Gif:
    """A frame that stays is stored once with its duration; of one that changes, only the rectangle that did."""

    def __init__(self, path: Path, fps: float, shape: tuple[int, ...]) -> None:
        self._fps = fps
        self._shown = 0  # frames until the end of the pending one
        self._clock = 0  # end of the last written one, in GIF's hundredths of a second
        self._previous: Pixels | None = None
        self._pending: Pixels | None = None
        self._file: IO[bytes] = path.open("wb")
        height, width = shape[:2]
        # version, screen size, no common palette, and the extension that repeats for ever
        self._file.write(b"GIF89a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + b"\x00\x00\x00")
        self._file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")

    def add(self, frame: Pixels, repeat: int) -> None:
        if self._pending is None or not np.array_equal(frame, self._pending):
            self._write_pending()
            self._pending = frame.copy()
        self._shown += repeat

    def close(self) -> None:
        self._write_pending()
        self._file.write(b";")
        self._file.close()

    def _write_pending(self) -> None:
        if self._pending is None:
            return
        end = round(100 * self._shown / self._fps)
        duration, self._clock = (
            max(2, end - self._clock),
            max(self._clock + 2, end),
        )  # viewers slow down what is shorter
        top, left, bottom, right = 0, 0, *self._pending.shape[:2]
        if self._previous is not None:
            changed = (self._pending != self._previous).any(2)
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            top, left, bottom, right = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
        self._write_image(self._pending[top:bottom, left:right], (left, top), duration)
        self._previous = self._pending

    def _write_image(self, pixels: Pixels, offset: tuple[int, int], duration: int) -> None:
        from PIL import GifImagePlugin, Image

        image = Image.fromarray(pixels).quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        for chunk in GifImagePlugin.getdata(image, offset, duration=10 * duration, include_color_table=True):
            self._file.write(chunk)


class FilmWriter:
    """
    Writes a film; a context manager.

    :param path: where to, ending in ``.mp4`` (needs ``imageio-ffmpeg``) or ``.gif`` (needs ``pillow``)
    :param fps: frames a second
    :raises ValueError: for another ending, or when ``fps`` is not positive
    :raises FileNotFoundError: when the folder does not exist
    :raises DependencyNotInstalled: when the package that the format needs is missing, saying which
    """

    def __init__(self, path: str | Path, fps: float = 30) -> None:
        self.path = Path(path)
        self.fps = fps
        if fps <= 0:
            raise ValueError(f"fps must be more than 0, got {fps}")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"the folder of the recording does not exist: {self.path.parent}")
        kind = self.path.suffix.lower()
        self._encoder_class: type[_Mp4] | type[_Gif]
        try:
            if kind == ".mp4":
                import imageio_ffmpeg  # noqa: F401 - to fail now, not after the game

                self._encoder_class = _Mp4
            elif kind == ".gif":
                import PIL  # noqa: F401

                self._encoder_class = _Gif
            else:
                raise ValueError(f"a recording must end in .mp4 or .gif, got {self.path.name!r}")
        except ImportError as error:
            package = "imageio-ffmpeg" if kind == ".mp4" else "pillow"
            raise DependencyNotInstalled(f"Recording {kind} needs {package}: run `pip install {package}`.") from error
        self._encoder: _Encoder | None = None
        self._shape: tuple[int, ...] | None = None

    def add(self, frame: Pixels, repeat: int = 1) -> None:
        """
        :param frame: RGB, shape ``(height, width, 3)``, uint8; every frame of a film has the same shape
        :param repeat: for how many frames it stays
        :raises ValueError: for another shape or type
        """
        frame = np.asarray(frame)
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(f"a frame must be uint8 (height, width, 3), got {frame.dtype} {frame.shape}")
        if self._encoder is None:
            self._shape = frame.shape
            self._encoder = self._encoder_class(self.path, self.fps, frame.shape)
        if frame.shape != self._shape:
            raise ValueError(f"every frame must have the shape of the first, {self._shape}, got {frame.shape}")
        if repeat > 0:
            self._encoder.add(frame, repeat)

    def close(self) -> None:
        """Finish the file. Without a single frame there is none."""
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def record(frames: Iterable[Pixels], path: str | Path, fps: float = 30) -> Path:
    """
    Write frames, for instance those of ``env.render()`` in the mode "rgb_array", as a film.

    :param frames: RGB frames of one shape ``(height, width, 3)``; a generator is consumed as it comes
    :param path: where to, ending in ``.mp4`` or ``.gif``
    :param fps: frames a second
    :return: the path
    :raises ValueError: when there is no frame, and as :class:`FilmWriter` does
    """
    count = 0
    with FilmWriter(path, fps) as film:
        for frame in frames:
            film.add(frame)
            count += 1
    if not count:
        raise ValueError("there is no frame to record")
    return Path(path)
