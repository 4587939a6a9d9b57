"""How the JVMs of the tests are started, so that they start soon.

Each lives for minutes at most: the second compiler and a parallel collector cost it more than they
bring (312 s of CPU against 180 s in two test files, once). The archive of loaded classes is made
by `./run test` (see scripts/class_archive.py); a JVM that it does not suit starts without.
"""

from __future__ import annotations

import sys
from pathlib import Path

ARCHIVE = Path(sys.prefix, "sparknn-tests.jsa")

QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def options() -> str:
    """Return the options of Java's with which a JVM of the tests starts."""
    if not ARCHIVE.exists():
        return QUICK
    return f'{QUICK} -XX:SharedArchiveFile="{ARCHIVE}" -Xlog:disable -Xlog:all=error:stderr'
