"""For what may fail without ending the program that it is a part of."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

# Between two attempts: short, because a job that is killed has not many seconds for its last copy.
PAUSE_SECONDS = 2


def attempt(action: Callable[[], Any], times: int = 1) -> Any:
    """What an action returns; None where it fails so many times, each of which is logged."""
    for left in reversed(range(times)):
        try:
            return action()
        except Exception as error:
            print(f"sparknn-node: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        if left:
            time.sleep(PAUSE_SECONDS)
    return None
