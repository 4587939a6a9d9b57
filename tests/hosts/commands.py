"""A stand-in for Systems Manager: SendCommand is carried out on the test hosts.

Only AWS-RunShellScript, and only what a caller needs of it: the commands, their output and their
status. Output is cut after 24,000 characters, as there.
"""

from __future__ import annotations

import json
import subprocess
import threading
import uuid
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from hosts.lab import enter

LIMIT = 24000


class CommandStandIn:
    """Carries commands out, and remembers what came of them.

    Parameters
    ----------
    folder : the laboratory's, where every host has left the id of its first process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._invocations: dict[tuple[str, str], dict[str, Any]] = {}

    def answer(self, headers: Mapping[str, str], environ: dict) -> dict | None:
        """The answer to a request about commands; None for any other request."""
        action = headers.get("x-amz-target", "").removeprefix("AmazonSSM.")
        if action == "StartSession":
            # `plugin` is the other end of it.
            return {"SessionId": str(uuid.uuid4()), "TokenValue": "none", "StreamUrl": "wss://lab"}
        if action not in ("SendCommand", "GetCommandInvocation"):
            return None
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        asked = json.loads(body)
        if action == "SendCommand":
            return self._send(asked)
        return self._invocations[asked["CommandId"], asked["InstanceId"]]

    def _send(self, asked: dict) -> dict:
        command = str(uuid.uuid4())
        script = "\n".join(asked["Parameters"]["commands"])
        for instance in asked["InstanceIds"]:
            about = {"CommandId": command, "InstanceId": instance, "Status": "InProgress"}
            about.update(ResponseCode=-1, StandardOutputContent="", StandardErrorContent="")
            self._invocations[command, instance] = about
            threading.Thread(target=self._carry_out, args=(about, script), daemon=True).start()
        return {
            "Command": {
                "CommandId": command,
                "DocumentName": asked["DocumentName"],
                "InstanceIds": asked["InstanceIds"],
                "Status": "InProgress",
            }
        }

    def _carry_out(self, about: dict, script: str) -> None:
        pid = int((self.folder / about["InstanceId"] / "pid").read_text())
        done = subprocess.run(enter(pid, script), capture_output=True, text=True, check=False)
        about.update(
            ResponseCode=done.returncode,
            StandardOutputContent=done.stdout[:LIMIT],
            StandardErrorContent=done.stderr[:LIMIT],
            Status="Failed" if done.returncode else "Success",
        )
