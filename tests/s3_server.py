"""An S3 endpoint in a process of its own: moto's server, which checks signatures and rights.

    python s3_server.py TRAP

It prints its port. While the file TRAP is there, holding a process group and a pattern, the first
request whose "METHOD path?query" the pattern matches kills that group before it is answered.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server


class Watched:
    """moto's application, behind a trap."""

    def __init__(self, trap: Path):
        self.application = DomainDispatcherApplication(create_backend_app)
        self.trap, self.lock = trap, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        with self.lock:
            self.spring(request)
        return self.application(environ, start_response)

    def spring(self, request: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            group, pattern = self.trap.read_text().split(maxsplit=1)
            if re.search(pattern.strip(), request):
                self.trap.rename(self.trap.with_name("sprung"))
                os.killpg(int(group), signal.SIGKILL)


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(
        "127.0.0.1",
        0,
        Watched(Path(sys.argv[1])),
        threaded=True,
        request_handler=MotoRequestHandler,
    )
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
