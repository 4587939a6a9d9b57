"""Being interrupted: what costs money is removed all the same."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["ends_by_signal", "undisturbed"]


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _handling(numbers: tuple[int, ...], handler: Callable[..., Any] | int) -> Iterator[None]:
    # Only the main thread may, and only it is told of signals.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def ends_by_signal() -> Iterator[None]:
    """Let a termination or a closed terminal interrupt like Ctrl-C."""
    with _handling((signal.SIGTERM, signal.SIGHUP), _interrupt):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let nothing short of SIGKILL interrupt a removal."""
    with _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN):
        yield
