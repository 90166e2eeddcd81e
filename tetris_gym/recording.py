"""Films of frames, as .mp4 or .gif, written frame by frame: a long game needs no more memory than a short one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Codes = NDArray[np.uint32]  # a colour as one number, 0xRRGGBB

_TRANSPARENT = 255  # the palette index that leaves a pixel of a GIF as it was


class _Encoder(Protocol):
    def add(self, frame: Pixels, repeat: int) -> None: ...

    def close(self) -> None: ...


class _Background:
    """
    Lets a thread of its own do the encoding: it does not hold up a game, and Ctrl-C, which reaches the main thread,
    does not break off what the encoder is writing.

    :param encoder: what encodes the frames
    """

    def __init__(self, encoder: _Encoder) -> None:
        self._encoder = encoder
        self._frames: Queue[tuple[Pixels, int] | None] = Queue(maxsize=8)
        self._error: Exception | None = None
        self._thread = Thread(target=self._encode, name="film", daemon=True)
        self._thread.start()

    def add(self, frame: Pixels, repeat: int) -> None:
        if self._error is not None:
            raise self._error
        self._frames.put((frame.copy(), repeat))

    def close(self) -> None:
        self._frames.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _encode(self) -> None:
        while (item := self._frames.get()) is not None:
            if self._error is None:  # after an error, frames are only taken away
                self._attempt(self._encoder.add, *item)
        self._attempt(self._encoder.close)

    def _attempt(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except Exception as error:
            self._error = self._error or error


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
    """A frame that stays is stored once with its duration; of one that changes, only the pixels that did."""

    def __init__(self, path: Path, fps: float, shape: tuple[int, ...]) -> None:
        self._fps = fps
        self._shown = 0  # frames until the end of the pending one
        self._clock = 0  # end of the last written one, in GIF's hundredths of a second
        self._previous: Codes | None = None
        self._pending: Codes | None = None
        self._file: IO[bytes] = path.open("wb")
        height, width = shape[:2]
        # version, screen size, no common palette, and the extension that repeats for ever
        self._file.write(b"GIF89a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + b"\x00\x00\x00")
        self._file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")

    def add(self, frame: Pixels, repeat: int) -> None:
        red, green, blue = (frame[..., i].astype(np.uint32) for i in range(3))
        codes: Codes = np.asarray(red << 16 | green << 8 | blue, dtype=np.uint32)
        if self._pending is None or not np.array_equal(codes, self._pending):
            self._write_pending()
            self._pending = codes
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
        changed = np.ones(self._pending.shape, dtype=np.bool_)
        if self._previous is not None:
            changed = self._pending != self._previous
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        area = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        self._write_image(self._pending[area], changed[area], (int(columns[0]), int(rows[0])), duration)
        self._previous = self._pending

    def _write_image(self, codes: Codes, changed: NDArray[np.bool_], offset: tuple[int, int], duration: int) -> None:
        from PIL import GifImagePlugin, Image

        indices = np.full(changed.shape, _TRANSPARENT, dtype=np.uint8)
        indices[changed], palette = _quantize(codes[changed])
        image = Image.fromarray(indices).convert("P")
        image.putpalette(palette.tobytes())
        for chunk in GifImagePlugin.getdata(
            image, offset, duration=10 * duration, disposal=1, transparency=_TRANSPARENT, include_color_table=True
        ):
            self._file.write(chunk)


def _quantize(codes: Codes) -> tuple[Pixels, Pixels]:
    """
    :param codes: colours, shape ``(n,)``
    :return: their indices in a palette, shape ``(n,)``, and the palette, shape ``(256, 3)``, its last entry unused;
        exact where 255 colours suffice, as they mostly do for what changes from one frame to the next
    """
    from PIL import Image

    palette = np.zeros((256, 3), dtype=np.uint8)
    codes, which, counts = np.unique(codes, return_inverse=True, return_counts=True)
    distinct = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.uint8)
    if len(distinct) < 256:
        palette[: len(distinct)] = distinct
        return which.astype(np.uint8), palette
    # large areas count by the root of their size, or they would take the palette from small ones of another colour
    weights = np.ceil(np.sqrt(counts)).astype(np.int64)
    sample = Image.fromarray(np.repeat(distinct, weights, axis=0)[None])
    sample = sample.quantize(255, Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    found = np.array(sample.getpalette(), dtype=np.uint8).reshape(-1, 3)[:255]
    palette[: len(found)] = found
    return np.asarray(sample)[0, np.cumsum(weights) - 1][which], palette


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
        :raises OSError: when the file could not be written; the same goes for :meth:`close`
        """
        frame = np.asarray(frame)
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(f"a frame must be uint8 (height, width, 3), got {frame.dtype} {frame.shape}")
        if self._encoder is None:
            self._shape = frame.shape
            self._encoder = _Background(self._encoder_class(self.path, self.fps, frame.shape))
        if frame.shape != self._shape:
            raise ValueError(f"every frame must have the shape of the first, {self._shape}, got {frame.shape}")
        if repeat > 0:
            self._encoder.add(frame, repeat)

    def close(self) -> None:
        """Finish the file. Without a single frame there is none."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()

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
