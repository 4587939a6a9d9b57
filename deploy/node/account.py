"""What root does in directories that jobs write to, under their account.

A job may put a link in the place of any file of its own, and what root would read or write there
is not for it. Under its account a link leads no further than the job could go by itself.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from .configuration import ACCOUNT

# For one look: it must not wait for ever at a pipe that a job has put in the place of a file.
SECONDS = 60


def become() -> None:
    """Give root's rights up for those of Spark's account, for good."""
    if os.geteuid() == 0:
        about = pwd.getpwnam(ACCOUNT)
        os.setgroups([])
        os.setgid(about.pw_gid)
        os.setuid(about.pw_uid)


def result_of(action: Callable[[], Any], seconds: int = SECONDS) -> Any:
    """What an action returns, as JSON can say it, that a child does under Spark's account.

    Raises
    ------
    OSError
        With the action's own words where it fails, or when it takes longer.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(action, writing, seconds)
    os.close(writing)
    with open(reading) as file:
        said = file.read()
    os.waitpid(child, 0)
    if not said:
        raise OSError(f"no answer from what jobs have written, in {seconds} s")
    answer = json.loads(said)
    if "error" in answer:
        raise OSError(answer["error"])
    return answer["result"]


def _answer(action: Callable[[], Any], writing: int, seconds: int) -> NoReturn:
    """What the child does; it never returns to what its parent was doing."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            become()
            answer = {"result": action()}
        except Exception as error:
            answer = {"error": str(error)}
        with open(writing, "w") as file:
            json.dump(answer, file)
    finally:
        os._exit(0)
