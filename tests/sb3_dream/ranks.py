"""Several ranks on this machine: processes that are forked from a server which has imported everything already."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr
from multiprocessing.connection import Connection
from typing import Any

import torch as th
import torch._dynamo  # what every rank would import when it makes an optimiser
import torch.distributed as dist

from sb3_dream.cli import main
from sb3_dream.zoo_commands import train  # noqa: F401 - and for the command line

_SECONDS = 120  # until ranks that wait for each other for ever are ended

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


def on_ranks(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """
    :param count: of ranks
    :param work: what each of them does, a function of a module, once they are connected
    :param arguments: of ``work``
    :return: what each returned, by rank, without objects of PyTorch but tensors; None for one that was killed
    :raises AssertionError: with the traceback of a rank that failed
    """
    return _run(count, _connected, work, *arguments)


def command_on_ranks(count: int, arguments: list[str]) -> list[tuple[int, str] | None]:
    """
    :param count: of ranks
    :param arguments: of the command line
    :return: the exit status of each rank and what it wrote to the standard error stream; None for one that was killed
    """
    return _run(count, _command, arguments)


def _connected(work: Callable[..., Any], *arguments: Any) -> Any:
    dist.init_process_group("gloo")
    result = work(*arguments)
    dist.destroy_process_group()
    return result


def _command(arguments: list[str]) -> tuple[int, str]:
    with redirect_stderr(io.StringIO()) as errors:
        status = main(arguments)
    return status, errors.getvalue()


def _run(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    pipes = [_context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        _context.Process(target=_rank, args=(rank, count, port, end, work, *arguments), daemon=True)
        for rank, (_, end) in enumerate(pipes)
    ]
    for process, (_, end) in zip(processes, pipes, strict=True):
        process.start()
        end.close()
    results = []
    for process, (begin, _) in zip(processes, pipes, strict=True):
        try:
            assert begin.poll(_SECONDS), "a rank did not come to an end"
            failure, result = pickle.loads(begin.recv_bytes())
            assert failure is None, failure
            results.append(result)
        except EOFError:
            results.append(None)
        finally:
            process.kill() if begin.poll(0) is None else process.join(10)
    return results


def _rank(rank: int, count: int, port: int, end: Connection, work: Callable[..., Any], *arguments: Any) -> None:
    th.set_num_threads(1)
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in places.items()})
    failure = result = None
    try:
        result = work(*arguments)
    except Exception:
        failure = traceback.format_exc()
    end.send_bytes(pickle.dumps((failure, result)))
