"""What `spark-submit` needs for `s3a://` paths, as options for its command line.

    spark-submit $(python -m sparknn.cli.s3) jobs/train_mlp.py --input s3a://bucket/train …

They name Hadoop's s3a and Spark's S3 committers, of the versions that fit the Spark installed here,
and act before the JVM starts, as they must. docs/s3.md tells the rest.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from sparknn.cli.jars import (
    CLOUD,
    COMMITTERS,
    Versions,
    cloud_version,
    committing,
    gather,
    gather_cloud,
)
from sparknn.errors import DownloadError

__all__ = ["main", "options"]

# What the two packages bring that Spark has already, or that serves other clouds.
EXCLUDED = (
    "com.fasterxml.jackson.core:jackson-annotations",
    "com.fasterxml.jackson.core:jackson-databind",
    "com.fasterxml.jackson.dataformat:jackson-dataformat-cbor",
    "com.google.cloud.bigdataoss:gcs-connector",
    "com.squareup.okhttp3:okhttp",
    "com.squareup.okio:okio",
    "joda-time:joda-time",
    "org.apache.hadoop:hadoop-azure",
    "org.apache.hadoop:hadoop-client-api",
    "org.apache.hadoop:hadoop-client-runtime",
    "org.apache.hadoop:hadoop-cloud-storage",
    "org.apache.hadoop:hadoop-huaweicloud",
    "org.apache.httpcomponents:httpclient",
    "org.apache.httpcomponents:httpcore",
    "org.eclipse.jetty:jetty-util",
    "org.eclipse.jetty:jetty-util-ajax",
    "org.wildfly.openssl:wildfly-openssl",
)


@click.group(invoke_without_command=True, help=__doc__)
@click.option(
    "--jars",
    type=click.Path(file_okay=False, path_type=Path),
    help="Take the jars from this directory, which `fetch` fills, in place of --packages.",
)
@click.option(
    "--committer",
    type=click.Choice(COMMITTERS),
    default=COMMITTERS[0],
    show_default=True,
    help="How Parquet parts are written: straight to S3, unseen until the job commits, or to the "
    "executors' disks first.",
)
@click.option("--endpoint", help="Another S3 server's URL, such as http://minio:9000.")
@click.option("--region", help="Of the buckets; for another server by default us-east-1.")
@click.pass_context
def main(
    context: click.Context,
    jars: Path | None,
    committer: str,
    endpoint: str | None,
    region: str | None,
) -> None:
    """Print the options."""
    if context.invoked_subcommand:
        return
    try:
        click.echo(" ".join(options(jars, committer, endpoint, region)))
    except DownloadError as error:
        raise click.UsageError(str(error)) from None


@main.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def fetch(directory: Path) -> None:
    """Fill DIRECTORY with the jars, for --jars.

    The AWS SDK's bundle, 700 MB, is fetched once and kept without the services that s3a does not
    use, which leaves some 20 MB. Each version of Spark has a folder of its own there; jars that
    are in it already stay.
    """
    try:
        versions = Versions.installed()
        directory = _place(directory, versions)
        directory.mkdir(parents=True, exist_ok=True)
        found = gather(versions.hadoop, directory)
        found.append(gather_cloud(versions, _cloud_version(versions), directory))
    except DownloadError as error:
        raise click.ClickException(str(error)) from None
    for jar in found:
        click.echo(f"{jar}: {jar.stat().st_size / 1e6:.1f} MB", err=True)


def options(
    jars: Path | None = None,
    committer: str = COMMITTERS[0],
    endpoint: str | None = None,
    region: str | None = None,
) -> list[str]:
    """Return the options as `main` prints them.

    Raises DownloadError where the versions are not to be found, or the jars not in the directory.
    """
    versions = Versions.installed()
    found = _packages(versions) if jars is None else _jars(versions, jars)
    return [*found, *_settings(committer, endpoint, region)]


def _packages(versions: Versions) -> list[str]:
    packages = [
        f"org.apache.hadoop:hadoop-aws:{versions.hadoop}",
        f"org.apache.spark:{CLOUD}_{versions.scala}:{_cloud_version(versions)}",
    ]
    return ["--packages", ",".join(packages), "--exclude-packages", ",".join(EXCLUDED)]


def _cloud_version(versions: Versions) -> str:
    """Return the version of the committers' jar, and say so where it is not Spark's own."""
    version = cloud_version(versions)
    if version != versions.spark:
        click.echo(
            f"{CLOUD}_{versions.scala} {versions.spark} is not in Maven Central: taking {version}, "
            "the newest before",
            err=True,
        )
    return version


def _place(directory: Path, versions: Versions) -> Path:
    """Return where in a directory the jars for a Spark are."""
    return directory / f"spark-{versions.spark}"


def _jars(versions: Versions, directory: Path) -> list[str]:
    """Return --jars with what `fetch` put in a directory for these versions."""
    directory = _place(directory.absolute(), versions)
    if re.search(r"[\s,*?\[\]]", str(directory)):
        raise DownloadError(f"{directory}: its name has a character that a shell would take apart")
    wanted = {
        f"hadoop-aws-{versions.hadoop}.jar": "hadoop-aws",
        "bundle-*.jar": "the AWS SDK's bundle",
        f"{CLOUD}_{versions.scala}-*.jar": CLOUD,
    }
    for pattern, name in wanted.items():
        if not list(directory.glob(pattern)):
            raise DownloadError(
                f"{directory} holds no {name} for Spark {versions.spark} with Hadoop "
                f"{versions.hadoop}: python -m sparknn.cli.s3 fetch {directory.parent}"
            )
    return ["--jars", ",".join(str(jar) for jar in sorted(directory.glob("*.jar")))]


def _settings(committer: str, endpoint: str | None, region: str | None) -> list[str]:
    """Return the settings of the committers and of the server."""
    settings = committing(committer)
    if endpoint:
        settings["spark.hadoop.fs.s3a.endpoint"] = endpoint
        settings["spark.hadoop.fs.s3a.path.style.access"] = "true"
        region = region or "us-east-1"
    if region:
        settings["spark.hadoop.fs.s3a.endpoint.region"] = region
    return [part for item in settings.items() for part in ("--conf", "=".join(item))]


if __name__ == "__main__":
    main()
