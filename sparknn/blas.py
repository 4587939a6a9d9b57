"""The threads of linear algebra, which are fixed wherever results must not depend on them."""

from __future__ import annotations

from contextlib import AbstractContextManager

from threadpoolctl import ThreadpoolController

__all__ = ["blas_threads"]

_controller: ThreadpoolController | None = None


def blas_threads(threads: int) -> AbstractContextManager:
    """Return a context inside which BLAS runs in so many threads.

    A process looks for its libraries once, because a look takes milliseconds.
    """
    global _controller
    if _controller is None:
        _controller = ThreadpoolController()
    return _controller.limit(limits=threads, user_api="blas")
