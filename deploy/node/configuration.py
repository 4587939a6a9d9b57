"""The texts that a machine is set up with: Spark's settings, its environment, systemd's units."""

from __future__ import annotations

from collections.abc import Mapping

ACCOUNT = "spark"
MASTER_PORT, MASTER_PAGE = 7077, 8080
WORKER_PORT, WORKER_PAGE = 7078, 8081

HOME = "/opt/sparknn"
VENV = HOME + "/venv"
JAVA_HOME = HOME + "/java"
SPARK_CONF = "/etc/sparknn/spark"
STATE = "/var/lib/sparknn"
RUNTIME = "/run/sparknn"
COMMAND = "/usr/local/bin/sparknn-node"

SAFETY = {
    "spark.authenticate": "true",
    "spark.network.crypto.enabled": "true",
    "spark.network.crypto.authEngineVersion": "2",
    "spark.io.encryption.enabled": "true",
    "spark.master.rest.enabled": "false",
    "spark.ui.killEnabled": "false",
    "spark.master.ui.decommission.allow.mode": "DENY",
    # Block files stay where they are when a cached block moves, so descriptors must not move
    # (docs/how-it-works.md); what a shuffle has written may.
    "spark.decommission.enabled": "true",
    "spark.storage.decommission.enabled": "true",
    "spark.storage.decommission.shuffleBlocks.enabled": "true",
    "spark.storage.decommission.rddBlocks.enabled": "false",
}


def heap_mebibytes(memory: int) -> int:
    """The heap of Spark's processes on a machine of so many bytes: a quarter, in MiB.

    The rest is for Python and the page cache, in which sparknn's blocks live.
    """
    return max(memory // 4 // (1 << 20), 512)


def spark_defaults(settings: Mapping, memory: int, secret: str) -> dict[str, str]:
    """The lines of spark-defaults.conf, for a machine of `memory` bytes.

    The user's own `spark_conf` wins over everything but the secret.
    """
    s3a = "spark.hadoop.fs.s3a."
    lines = dict(SAFETY)
    lines["spark.driver.memory"] = f"{heap_mebibytes(memory)}m"
    lines["spark.eventLog.rolling.enabled"] = "true"
    lines["spark.eventLog.rolling.maxFileSize"] = "10m"
    lines[s3a + "aws.credentials.provider"] = (
        "org.apache.hadoop.fs.s3a.auth.IAMInstanceCredentialsProvider"
    )
    lines[s3a + "endpoint.region"] = settings["region"]
    if "s3" in settings["endpoints"]:
        lines[s3a + "endpoint"] = settings["endpoints"]["s3"]
        lines[s3a + "path.style.access"] = "true"
    lines.update(settings["spark_conf"])
    lines["spark.authenticate.secret"] = secret
    return lines


def properties(lines: Mapping[str, str]) -> str:
    """Settings as a Java properties file."""
    text = []
    for name, value in sorted(lines.items()):
        if "\n" in name + value or "\r" in name + value:
            raise ValueError(f"the Spark setting {name.split()[0]} has more than one line")
        text.append(f"{name} {value}\n".replace("\\", "\\\\"))
    return "".join(text)


def environment(address: str, memory: int, packages: str) -> dict[str, str]:
    """The environment of every Spark process; `packages` is the venv's site-packages."""
    return {
        "JAVA_HOME": JAVA_HOME,
        "SPARK_HOME": packages + "/pyspark",
        "SPARK_CONF_DIR": SPARK_CONF,
        "SPARK_LOCAL_IP": address,
        # A driver is known to its executors by its address: not every network resolves names.
        "SPARK_LOCAL_HOSTNAME": address,
        "SPARK_WORKER_DIR": STATE + "/work",
        "SPARK_WORKER_MEMORY": f"{heap_mebibytes(memory)}m",
        "PYSPARK_PYTHON": VENV + "/bin/python",
        # Packages are not compiled while a machine boots: what is imported is, once, to here.
        "PYTHONPYCACHEPREFIX": STATE + "/home/bytecode",
        "PATH": f"{VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }


def environment_file(variables: Mapping[str, str]) -> str:
    """Variables as a file for systemd's EnvironmentFile; their values need no quotes."""
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def read_environment(text: str) -> dict[str, str]:
    """The variables of such a file."""
    return dict(line.split("=", 1) for line in text.splitlines())


_DISKS = f"""\
[Unit]
Description=Disks beside the root, formatted where blank and mounted for Spark
Before=sparknn-master.service sparknn-worker.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={COMMAND} disks

[Install]
WantedBy=multi-user.target
"""

_SPARK = """\
[Unit]
Description=Spark {title}
Wants=network-online.target
After=network-online.target
Requires=sparknn-disks.service
After=sparknn-disks.service

[Service]
User={account}
EnvironmentFile=/etc/sparknn/environment
EnvironmentFile={runtime}/disks.env
{before}ExecStart={command}
LimitNOFILE=65536
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""

_WATCH = f"""\
[Unit]
Description=What sparknn watches on this machine: readiness, spot notices, idleness
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={COMMAND} watch
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def units(role: str, address: str, spark_home: str) -> dict[str, str]:
    """systemd's units on a machine, in the order in which they start: name → text."""
    spark_class = f"{spark_home}/bin/spark-class org.apache.spark.deploy."
    common = {"account": ACCOUNT, "runtime": RUNTIME}
    if role == "master":
        spark = _SPARK.format(
            title="master",
            before="",
            command=f"{spark_class}master.Master --host {address} --port {MASTER_PORT} "
            f"--webui-port {MASTER_PAGE}",
            **common,
        )
    else:
        # The plus sign: as root, who alone writes to that directory. It ends by itself.
        joining = f"EnvironmentFile=-{RUNTIME}/master.env\nExecStartPre=+{COMMAND} join\n"
        joining += "TimeoutStartSec=infinity\n"
        spark = _SPARK.format(
            title="worker",
            before=joining,
            command=f"{spark_class}worker.Worker --host {address} --port {WORKER_PORT} "
            f"--webui-port {WORKER_PAGE} ${{SPARKNN_MASTER}}",
            **common,
        )
    return {
        "sparknn-disks.service": _DISKS,
        f"sparknn-{role}.service": spark,
        "sparknn-watch.service": _WATCH,
    }
