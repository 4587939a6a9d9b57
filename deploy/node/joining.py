"""How the machines of a launch find each other: objects on S3, and the master's own page."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from http.client import HTTPException

from . import aws, configuration, layout
from .configuration import MASTER_PAGE, MASTER_PORT, RUNTIME

# How long a worker waits for the master of its launch.
PATIENCE = 900


def publish(services: aws.Services) -> None:
    """Say on S3 where this launch's master is."""
    settings = services.settings
    about = {"address": aws.address(), "port": MASTER_PORT}
    key = layout.master_key(settings["prefix"], settings["launch_id"])
    services.put(key, json.dumps(about).encode())


def find_master(services: aws.Services, patience: float = PATIENCE, pause: float = 2) -> str:
    """The address of this launch's master, waited for.

    Raises
    ------
    TimeoutError
        When it has not published its address after `patience` seconds.
    """
    settings = services.settings
    key = layout.master_key(settings["prefix"], settings["launch_id"])
    until = time.monotonic() + patience
    while True:
        found = _get_where_readable(services, key)
        if found is not None:
            return json.loads(found)["address"]
        if time.monotonic() > until:
            raise TimeoutError(f"no master has published its address in {patience} s")
        time.sleep(pause)


def _get_where_readable(services: aws.Services, key: str) -> bytes | None:
    try:
        return services.get(key)
    except aws.RequestError as error:
        # Where objects may not be listed, S3 calls one that is missing forbidden.
        if error.status == 403:
            return None
        raise


def join(services: aws.Services) -> None:
    """Find the master, and name it for the worker's unit; say so where there is none."""
    try:
        address = find_master(services)
    except TimeoutError as error:
        services.report("worker", "failed", str(error))
        raise
    os.makedirs(RUNTIME, exist_ok=True)
    with open(RUNTIME + "/master.env", "w") as file:
        variables = {"SPARKNN_MASTER": f"spark://{address}:{MASTER_PORT}"}
        file.write(configuration.environment_file(variables))


def page(address: str, port: int, path: str = "/json/") -> dict:
    """What a page of Spark's says in JSON.

    Raises
    ------
    OSError
        When it does not answer.
    ValueError
        When the answer is not Spark's.
    """
    url = f"http://{address}:{port}{path}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:
            return json.loads(answer.read())
    except (ValueError, HTTPException) as error:
        raise ValueError(f"{url} is no page of Spark's: {error}") from None


def workers(master: str) -> list[dict]:
    """The workers that a master has and that are alive, as its page describes them."""
    return [worker for worker in page(master, MASTER_PAGE)["workers"] if worker["state"] == "ALIVE"]
