"""Launches that are killed: python deploy_killed.py ENDPOINT, a number a line on standard input.

For each number n a process of its own launches the cluster "one" and is killed after its n-th
change; the answer is a line with its exit status, 7 when it had no n-th change and is done.
"""

from __future__ import annotations

import os
import sys

from deploy_helpers import Fault, connect, launched, settings

from deploy.plan import make_plan


def main(endpoint: str) -> None:
    """Answer each line."""
    plan = make_plan(connect(endpoint), settings(endpoint, auto_terminate=3600))
    # Made here, because that takes long, and used in the children alone: they share no connection.
    aws = connect(endpoint)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            Fault(aws, int(line), "killed")
            launched(aws, endpoint, plan=plan)
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


main(sys.argv[1])
