"""A cluster comes up from its user data on test hosts, trains from s3a, and ends as it should.

What stands in for EC2, S3, Systems Manager and systemd here is told in docs/deploy-nodes.md.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hosts.cluster import (
    BUCKET,
    GROUP,
    PATIENCE,
    PREFIX,
    SECRET,
    build_boot_files,
    cluster,
    until,
)
from hosts.lab import why_not

from deploy.node import layout
from sparknn import load_numpy

pytestmark = pytest.mark.cluster
WANTED = os.environ.get("SPARKNN_TEST_HOSTS")
WHY_NOT = (
    why_not()
    if WANTED
    else "SPARKNN_TEST_HOSTS=1 runs it: as root, in some minutes, with 700 MB to fetch at first"
)

JOB = Path(__file__).resolve().parents[1] / "jobs" / "train_mlp.py"


@pytest.mark.skipif(WANTED != "required", reason="SPARKNN_TEST_HOSTS=required asks, as in .ci/run")
def test_this_machine_can_have_test_hosts_where_they_are_required():
    """Elsewhere the tests below are skipped; where they must run, that is a failure."""
    assert WHY_NOT is None


@pytest.fixture(scope="module")
def boot_files(request):
    """The boot files, which are kept between runs of the tests: they take minutes to gather."""
    if WHY_NOT is not None:
        pytest.skip(WHY_NOT)
    directory = request.config.cache.mkdir("boot-files")
    return directory, build_boot_files(directory)


@pytest.fixture(scope="module")
def lab(boot_files, tmp_path_factory):
    """The AWS side of a cluster, with the handwritten digits in its bucket."""
    with cluster(tmp_path_factory.mktemp("lab"), *boot_files) as made:
        digits = tmp_path_factory.mktemp("digits")
        command = [sys.executable, "-m", "sparknn.cli.digits", str(digits)]
        subprocess.run(command, check=True, capture_output=True)
        for name in ("train.csv", "test.csv"):
            made.put(f"input/{name}", (digits / name).read_bytes())
        yield made


@pytest.fixture(scope="module")
def machines(lab):
    """A master and two workers, which boot all at once and are ready."""
    hosts = [lab.boot("i-master", role="master")]
    hosts += [lab.boot(f"i-worker-{number}") for number in (1, 2)]
    for host in hosts:
        about = lab.report(host)
        assert about["state"] == "ready", about["error"] + lab.explain(host)
    return hosts


@pytest.fixture(scope="module")
def trained(lab, machines):
    """The first job's status: a perceptron trained from s3a to s3a."""
    submit_training(lab, machines[0], "first")
    return lab.wait(machines[0], "first")


def submit_training(lab, master, job):
    lab.submit(
        master, job, JOB, "--input", f"s3a://{BUCKET}/input/train.csv", "--label", "label",
        "--test", f"s3a://{BUCKET}/input/test.csv", "--scale", "minmax", "--hidden", "32",
        "--activation", "relu", "--solver", "sgd", "--step-size", "0.05", "--momentum", "0.9",
        "--block-size", "16", "--max-iter", "30", "--seed", "7", "--partitions", "4",
        "--output", f"s3a://{BUCKET}/output/{job}",
    )  # fmt: skip


def processes(host):
    """The command lines of all processes of a host."""
    return host.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout


def test_the_machines_join_and_their_secret_is_nowhere_but_in_one_file(lab, machines):
    master = machines[0]
    page = json.loads(master.run("curl -s http://$(hostname -I | tr -d ' '):8080/json/").stdout)
    assert [one["state"] for one in page["workers"]] == ["ALIVE", "ALIVE"]
    for host in machines:
        found = host.run("stat -c '%a %U' /etc/sparknn/spark/spark-defaults.conf").stdout
        assert found == "600 spark\n"
        paths = "/etc/sparknn/settings.json /var/lib/sparknn/jobs"
        found = host.run(f"stat -c '%a %U %G' {paths}").stdout
        assert found == "640 root spark\n750 root spark\n"
        running = processes(host)
        assert "org.apache.spark.deploy" in running and SECRET not in running
        elsewhere = "grep -rl --exclude=spark-defaults.conf {} /etc /opt/sparknn/node.pyz /var/log"
        assert host.run(elsewhere.format(SECRET), check=False).stdout == ""
        owner = host.run("ps -o user= -p $(pgrep -f spark.deploy | head -n 1)").stdout
        assert owner == "spark\n"


def test_what_hosts_write_stays_in_their_own_root(machines):
    for path in ("/opt/sparknn", "/etc/sparknn", "/usr/local/bin/sparknn-node", "/opt/stand-in"):
        assert not Path(path).exists()


def test_a_job_trains_from_s3a_and_its_logs_are_in_the_bucket(lab, machines, trained):
    assert trained["exit"] == 0, lab.output(machines[0], "first")
    assert trained["state"] == "finished"
    assert trained["result"]["test"]["accuracy"] > 0.9
    # Its Parquet files were written by the committer for S3.
    (parquet,) = [key for key in lab.keys("output/first/") if key.endswith("/data/_SUCCESS")][:1]
    assert json.loads(lab.get(parquet))["committer"] == "magic"
    logs = layout.logs_prefix(PREFIX, "first")
    assert json.loads(lab.get(logs + "status.json"))["state"] == "finished"
    assert json.loads(lab.get(logs + "stdout/000000").splitlines()[-1]) == trained["result"]
    assert any("/events/eventlog_v2_" in key for key in lab.keys(logs))


def test_the_shell_is_pyspark_on_the_cluster(machines):
    lines = r'print("rows", sc.range(0, 99, 1, 4).count())\nexit()\n'
    # Python is interactive on a terminal only, which `script` is.
    said = machines[0].run(f"printf '{lines}' | script -qec 'sparknn-node shell' /dev/null")
    assert "rows 99" in said.stdout


def test_a_killed_job_ends_with_its_spark_and_says_so(lab, machines):
    master = machines[0]
    submit_training(lab, master, "doomed")
    until(lambda: "doomed/train_mlp.py" in processes(master), 60)
    master.run("sparknn-node kill doomed")
    assert lab.wait(master, "doomed", 10)["state"] == "killed"
    assert "doomed/train_mlp.py" not in processes(master)


def test_a_worker_without_the_secret_is_refused(lab, machines):
    host = machines[1]
    script = (
        "set -a; . /etc/sparknn/environment; SPARK_CONF_DIR=/tmp/none; SPARK_WORKER_DIR=/tmp/w; "
        "timeout 120 $SPARK_HOME/bin/spark-class org.apache.spark.deploy.worker.Worker "
        f"--host {host.address} --webui-port 0 spark://{machines[0].address}:7077 >/tmp/said 2>&1 &"
        # It would try again, for minutes.
        "while kill -0 $! && ! grep -q 'Failed to connect' /tmp/said; do sleep 1; done; sleep 3; "
        "kill $!; cat /tmp/said"
    )
    said = host.run(script, check=False).stdout
    assert "Failed to connect to master" in said
    assert "Successfully registered" not in said
    master = machines[0]
    page = json.loads(master.run(f"curl -s http://{master.address}:8080/json/").stdout)
    assert len(page["workers"]) == 2


def test_a_changed_boot_file_stops_the_boot_and_the_deadline_ends_the_machine(lab):
    few = {name: lab.settings.files[name] for name in ("node.pyz",)}
    wheel = lab.put(layout.boot_key(PREFIX, "a.whl"), b"as launched")
    lab.put(layout.boot_key(PREFIX, "a.whl"), b"changed since")
    end = int(time.time()) + 15
    host = lab.boot("i-changed", files={**few, "a.whl": wheel}, deadline=end)
    about = lab.report(host, 15)
    assert about["state"] == "failed"
    assert "a.whl has been changed" in about["error"]
    assert "org.apache.spark" not in processes(host)
    until(lambda: not host.is_up(), 25)
    assert time.time() >= end


def test_a_request_outside_the_policy_is_refused(lab, machines):
    lab.put("private/x", b"not for machines")
    refused = machines[0].run("sparknn-node fetch private/x 00 /tmp/x", check=False)
    assert refused.returncode != 0 and "AccessDenied" in refused.stderr
    unsigned = f"curl -s http://10.77.0.1:5000/{BUCKET}/input/train.csv"
    assert "AccessDenied" in machines[0].run(unsigned).stdout


def test_the_metadata_service_of_version_one_is_refused(machines):
    asked = "curl -s -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/meta-data/"
    assert machines[0].run(asked).stdout == "401"


def test_a_spot_notice_in_mid_fit_leaves_the_weights_unchanged(lab, machines, trained, tmp_path):
    master, _, victim = machines
    submit_training(lab, master, "noticed")
    # An executor that has not yet joined would not hear of it: its rounds have begun by then.
    until(lambda: re.search(r"Job [2-9]\d finished", lab.output(master, "noticed")), PATIENCE)
    assert "CoarseGrainedExecutorBackend" in processes(victim)
    lab.lab.tell("spot", {victim.name: '{"action": "terminate"}'})
    about = lab.wait(master, "noticed")
    assert about["exit"] == 0, lab.output(master, "noticed")
    assert "ecommission" in victim.run("cat /var/log/units/sparknn-worker.service").stdout
    assert "is now DECOMMISSIONED" in master.run("sparknn-node logs noticed").stdout
    expected, found = (weights(lab, job, tmp_path) for job in ("first", "noticed"))
    np.testing.assert_array_equal(found, expected)


SLEEPER = """\
import time
from pyspark.sql import SparkSession

context = SparkSession.builder.getOrCreate().sparkContext
print('{"slept": %d}' % context.parallelize([15], 1).map(lambda s: time.sleep(s) or s).sum())
"""


def test_a_decommissioned_worker_is_let_go_of_when_its_last_task_has_ended(lab, machines, tmp_path):
    # The other one has had its notice.
    master, worker, _ = machines
    script = tmp_path / "sleep.py"
    script.write_text(SLEEPER)
    lab.submit(master, "sleeping", script)
    until(lambda: "Starting task 0.0" in lab.output(master, "sleeping"), PATIENCE)
    assert "CoarseGrainedExecutorBackend" in processes(worker)
    assert worker.run("sparknn-node decommission").stdout == ""
    assert "CoarseGrainedExecutorBackend" not in processes(worker)
    about = lab.wait(master, "sleeping")
    assert about["result"] == {"slept": 15}, lab.output(master, "sleeping")


def weights(lab, job, folder):
    """A saved perceptron's weights, fetched from the bucket."""
    for key in lab.keys(f"output/{job}/"):
        path = folder / key
        if not key.endswith("/"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(lab.get(key))
    return load_numpy(folder / "output" / job).weights


def test_an_idle_cluster_takes_its_group_to_zero_and_shuts_its_master_down(lab, machines):
    master = machines[0]
    # Of a test that failed: a cluster with work is not idle.
    master.run("sparknn-node kill noticed", check=False)
    assert group_size(lab)["MaxSize"] == 2
    change = 's/"idle_seconds": 3600/"idle_seconds": 6/'
    master.run(f"sed -i '{change}' /etc/sparknn/settings.json")
    master.run(
        "systemctl stop sparknn-watch.service; systemctl start --no-block sparknn-watch.service"
    )
    until(lambda: not master.is_up(), 90, lambda: lab.explain(master))
    size = group_size(lab)
    assert (size["MinSize"], size["MaxSize"], size["DesiredCapacity"]) == (0, 0, 0)


def group_size(lab):
    with lab.lab.network():
        scaling = lab.client("autoscaling")
        return scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])[
            "AutoScalingGroups"
        ][0]
