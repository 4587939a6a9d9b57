"""`sparknn-node COMMAND`: what a machine of a cluster does, for systemd and for the caller."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys

from . import account, aws, configuration, disks, jobs, joining, setup, watch


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="sparknn-node", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = commands.add_parser
    add("set-up", help="set the machine up (user data does)")
    add("disks", help="mount instance-store disks (systemd does, at every boot)")
    add("join", help="find the master (systemd does, before a worker)")
    add("watch", help="watch this machine (systemd does)")
    add("decommission", help="have Spark let go of this worker, and wait for it")
    add("shell", help="pyspark on the cluster; its arguments come after --")
    fetch = add("fetch", help="fetch an object of the cluster's bucket to a file")
    fetch.add_argument("key")
    fetch.add_argument("sha256")
    fetch.add_argument("path")
    submit = add("submit", help="start a job; the arguments of its script come after --")
    submit.add_argument("job")
    submit.add_argument(
        "--file", nargs=3, action="append", required=True, metavar=("NAME", "KEY", "SHA256"),
        help="a file of the job in the bucket; the first is its script",
    )  # fmt: skip
    submit.add_argument("--conf", action="append", default=[], metavar="NAME=VALUE")
    add("jobs", help="the status of all jobs, a line of JSON each")
    for name, text in (
        ("run-job", "run a job (systemd does)"),
        ("status", "a job's status, as a line of JSON"),
        ("attach", "print a job's output until it ends, and end with its status"),
        ("kill", "stop a job"),
    ):
        add(name, help=text).add_argument("job")
    logs = add("logs", help="print what a job has written so far")
    logs.add_argument("job")
    logs.add_argument("--stream", choices=("stdout", "stderr"), default="stderr")
    logs.add_argument("--offset", type=int, default=0, help="bytes to leave out (default 0)")
    return top


def parse(words: list[str]) -> argparse.Namespace:
    """The options of a command line, with what comes after `--` as `arguments`."""
    # Not by argparse, which would give up at an option among them.
    end = words.index("--") if "--" in words else len(words)
    options = parser().parse_args(words[:end])
    options.arguments = words[end + 1 :]
    return options


def run(options: argparse.Namespace, services: aws.Services) -> int:
    """Carry out a command; returns the exit status."""
    command = options.command
    if command in ("jobs", "status", "attach", "logs"):
        # What jobs write is read as they could read it.
        account.become()
    if command in ("run-job", "attach"):
        return jobs.run(services, options.job) if command == "run-job" else jobs.follow(options.job)
    if command == "submit":
        files = {name: (key, sha256) for name, key, sha256 in options.file}
        jobs.submit(services, options.job, files, options.conf, options.arguments)
    elif command == "jobs":
        for about in jobs.all_jobs():
            print(json.dumps(about))
    elif command == "status":
        print(json.dumps(jobs.status(options.job)))
    elif command == "kill":
        jobs.kill(options.job)
    elif command == "logs":
        with open(f"{jobs.folder_of(options.job)}/{options.stream}", "rb") as file:
            file.seek(options.offset)
            shutil.copyfileobj(file, sys.stdout.buffer)
    elif command == "fetch":
        services.download(options.key, options.path, options.sha256)
    elif command == "shell":
        shell(options.arguments)
    else:
        machine(command, services)
    return 0


def machine(command: str, services: aws.Services) -> None:
    """The commands that concern the machine itself."""
    if command == "set-up":
        setup.set_up(services)
    elif command == "disks":
        disks.mount()
    elif command == "join":
        joining.join(services)
    elif command == "watch":
        watch.watch(services)
    elif command == "decommission":
        watch.decommission()
        if not watch.wait_until_let_go(aws.address()):
            print(f"has executors still, after {watch.LETTING_GO_SECONDS} s")


def shell(arguments: list[str]) -> None:
    """Become pyspark, under Spark's account."""
    with open("/etc/sparknn/environment") as file:
        variables = configuration.read_environment(file.read())
    with open(configuration.RUNTIME + "/disks.env") as file:
        variables.update(configuration.read_environment(file.read()))
    address = variables["SPARK_LOCAL_IP"]
    memory = [worker["memory"] for worker in joining.workers(address)]
    conf = ["--conf", f"spark.executor.memory={min(memory)}m"] if memory else []
    command = [
        "runuser",
        "-u",
        configuration.ACCOUNT,
        "--",
        variables["SPARK_HOME"] + "/bin/pyspark",
    ]
    master = f"spark://{address}:{configuration.MASTER_PORT}"
    os.chdir(configuration.STATE + "/home")
    os.execvpe(
        "runuser", [*command, "--master", master, *conf, *arguments], {**os.environ, **variables}
    )


def main() -> None:
    """The program."""
    options = parse(sys.argv[1:])
    with open(aws.SETTINGS) as file:
        services = aws.Services(json.load(file))
    try:
        sys.exit(run(options, services))
    except (jobs.JobError, aws.RequestError, OSError, ValueError) as error:
        sys.exit(f"sparknn-node: {error}")


if __name__ == "__main__":
    main()
