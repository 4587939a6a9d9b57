"""A stand-in for AWS's session-manager-plugin: a session is a process on the test host.

It is called as the real one is: VARIABLE REGION StartSession PROFILE REQUEST ENDPOINT, and knows
the documents AWS-StartInteractiveCommand and, without any, a login shell. SPARKNN_LAB names the
laboratory's folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from hosts.lab import enter


def main() -> None:
    """Become the process."""
    request = json.loads(sys.argv[5])
    if request.get("DocumentName", "AWS-StartInteractiveCommand") != "AWS-StartInteractiveCommand":
        sys.exit(f"the stand-in knows no {request['DocumentName']}")
    # Sessions belong to an account of their own which may become root; here they are root's.
    command = request.get("Parameters", {}).get("command", ["sh"])[0].removeprefix("sudo ")
    pid = int((Path(os.environ["SPARKNN_LAB"]) / request["Target"] / "pid").read_text())
    words = enter(pid, command)
    os.execvp(words[0], words)


if __name__ == "__main__":
    main()
