"""Data on S3: upload, sync, make-bucket; and configure."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.aws.policy import parse_s3
from deploy.buckets import make_bucket, require_bucket
from deploy.cli.common import Call, command
from deploy.cli.config import EXAMPLE, locate
from deploy.errors import SettingsError
from deploy.s3 import Folder, Step, steps, synchronise, upload_all

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the commands to a group."""
    _register_data(group)
    _register_setup(group)


def _register_data(group: click.Group) -> None:
    @command(group, "upload")
    @click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
    @click.argument("url")
    def upload(call: Call, files: tuple[Path, ...], url: str) -> None:
        """Upload FILES to URL: s3://bucket/path, or, with a slash at its end, below it."""
        folders = [str(path) for path in files if path.is_dir()]
        if folders:
            raise SettingsError(f"{folders[0]} is a directory: use `sync`")
        bucket, key = parse_s3(url)
        named = not url.endswith("/") and bool(key)
        if named and len(files) > 1:
            raise SettingsError(f"{url} is one object: end it with / for {len(files)} files")
        if len({path.name for path in files}) < len(files):
            raise SettingsError("two files have one name: upload them to different places")
        require_bucket(call.aws, bucket)
        folder = Folder(call.aws, bucket, key.rpartition("/")[0] if named else key)
        targets = {key.rpartition("/")[2] if named else path.name: path for path in files}
        upload_all(folder, targets)
        urls = [f"s3://{bucket}/{folder.key(name)}" for name in targets]
        call.answer({"uploaded": urls}, "\n".join(urls))

    @command(group, "sync")
    @click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
    @click.argument("url")
    @click.option("--delete", is_flag=True, help="Objects that the directory lacks.")
    @click.option("--checksum", is_flag=True, help="Compare contents, not size and time.")
    @click.option("--dry-run", is_flag=True, help="Print what would be done.")
    @click.option("--yes", is_flag=True, help="Do not ask before deleting.")
    def sync(
        call: Call,
        directory: Path,
        url: str,
        delete: bool,
        checksum: bool,
        dry_run: bool,
        yes: bool,
    ) -> None:
        """Make what is under URL like DIRECTORY; deletes nothing without --delete."""
        folder = Folder.at(call.aws, url)
        require_bucket(call.aws, folder.bucket)
        todo = steps(directory, folder, delete, checksum)
        going = [step for step in todo if step.action == "delete"]
        if not dry_run:
            if going:
                call.confirm(f"Delete {len(going)} objects under {url}?", yes)
            synchronise(folder, todo)
        data = [{"action": step.action, "name": step.name, "bytes": step.size} for step in todo]
        call.answer(data, "\n".join(map(_line, todo)) or "nothing to do")


def _line(step: Step) -> str:
    return f"{step.action} {step.name} ({step.size} bytes)"


def _register_setup(group: click.Group) -> None:
    @command(group, "make-bucket")
    @click.argument("bucket")
    def make_bucket_(call: Call, bucket: str) -> None:
        """Make a bucket: closed to the public, TLS only, encrypted."""
        make_bucket(call.aws, bucket)
        call.answer({"bucket": bucket, "region": call.aws.region}, f"s3://{bucket}")

    @group.command("configure")
    @click.option("--locate", "only_locate", is_flag=True, help="Print the file's path alone.")
    @click.pass_context
    def configure(context: click.Context, only_locate: bool) -> None:
        """Open cluster.toml, the options' defaults, in your editor; makes it if it is missing."""
        path = locate(context.find_root().params.get("config"))
        if not only_locate:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(EXAMPLE, encoding="utf-8")
            click.edit(filename=str(path))
        click.echo(str(path))
