"""What makes tasks start soon in Spark's Python workers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pyspark
import pytest

from sparknn.workers import hurry

PROJECT = Path(__file__).resolve().parent.parent
LIBRARY = Path(pyspark.__file__).parent / "python" / "lib"

TASKS = (
    "batches blocks cli.plain_text cli.text_batches dealing mapping moments packing prediction "
    "readers rounds training"
)
"""Modules whose functions are sent to the executors."""


def run(code: str, *path: Path) -> None:
    """Run code as a worker would, which loads pyspark from Spark's own archives."""
    entries = [*LIBRARY.glob("*.zip"), *path, PROJECT]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, entries))}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", TASKS.split())
def test_what_tasks_need_loads_neither_pyspark_ml_nor_pandas(module) -> None:
    run(
        "import sys, pyspark.worker\n"
        f"import sparknn.{module}\n"
        "slow = {'pyspark.ml', 'pandas'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )


def test_finders_of_spark_s_archives_are_dropped_and_no_others(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "users.zip", "w") as archive:
        archive.writestr("users_module.py", "VALUE = 1")
    run(
        "import sys, pyspark.worker, users_module\n"
        "from sparknn.workers import tidy\n"
        "def archives():\n"
        "    finders = sys.path_importer_cache.values()\n"
        "    return {f.archive for f in finders if hasattr(f, 'archive')}\n"
        "found = archives()\n"
        "assert any(name.endswith('pyspark.zip') for name in found), found\n"
        "tidy()\n"
        "kept = archives()\n"
        "assert [name for name in kept if name.endswith('users.zip')] == list(kept), kept\n"
        "import pyspark.ml.linalg, importlib\n"
        "assert 'pyspark.zip' in pyspark.ml.linalg.__file__\n"
        "assert importlib.import_module('pyspark.sql.window')\n",
        tmp_path / "users.zip",
    )


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="an option of Linux")
def test_hurry_acknowledges_what_came_by_tcp_and_leaves_other_files_alone(tmp_path) -> None:
    def delays(connection: socket.socket) -> bool:
        return not connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as executor,
        server.accept()[0] as worker,
        open(tmp_path / "file", "w") as file,
    ):
        one, other = socket.socketpair()
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with one, other, datagrams:
            for each in (executor, worker):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            socket.setdefaulttimeout(5)
            hurry()
            socket.setdefaulttimeout(None)
            assert delays(executor) and delays(worker)
            hurry()
            assert os.get_blocking(worker.fileno())
            assert not delays(executor) and not delays(worker)
            one.sendall(b"1")
            assert other.recv(1) == b"1"
        executor.sendall(b"2")
        assert worker.recv(1) == b"2"
        file.write("still open")
