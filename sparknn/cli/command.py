"""What every job's command line has: --config, --explain, --metrics, and --help in sections."""

from __future__ import annotations

import uuid
from typing import Any

import click
from click.core import ParameterSource
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from sparknn.cli.config import read_config
from sparknn.cli.input_options import input_options
from sparknn.cli.paths import explained, plain
from sparknn.cli.session import Finished, closing_line, start_session
from sparknn.errors import InvalidDataError
from sparknn.persistence import path_on

__all__ = ["EPILOG", "JobCommand"]

EPILOG = "Every job, with examples: docs/jobs.md. How to choose settings: docs/training.md."

INPUT = "Input"
MODEL = "Model"
SECTIONS = {
    INPUT: "label features weight validation split-column test categorical drop bins missing "
    "unseen scale model",
    MODEL: "",
    "Output": "output overwrite columns keep save",
    "The job itself": "config explain metrics help seed partitions checkpoint-dir "
    "checkpoint-interval",
}
"""Where options stand in --help, beside those that say how to read; all others are a model's."""


class JobCommand(click.Command):
    """A job.

    Its callback takes `explain`, whether only to say what would be done, and returns the closing
    JSON object.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs["context_settings"] = {"max_content_width": 100} | kwargs.get("context_settings", {})
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(
                ["--config"],
                metavar="FILE",
                is_eager=True,
                expose_value=False,
                callback=_configure,
                help="A TOML file of options, such as max-iter = 20; the command line wins.",
            ),
            click.Option(
                ["--explain"],
                is_flag=True,
                help="Say what would be done, what it needs and about how long it takes; do it "
                "not.",
            ),
            click.Option(
                ["--metrics"],
                metavar="PATH",
                expose_value=False,
                callback=_keep_metrics,
                help="A file that gets the closing line of JSON, too; an older one is replaced.",
            ),
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Convert the options; an error in a value of the file names the file."""
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            name = error.param.name if error.param else None
            if not name or ctx.get_parameter_source(name) != ParameterSource.DEFAULT_MAP:
                raise
            message = f"{error.message} It stands in {ctx.meta['sparknn.config']}."
            raise click.BadParameter(message, error.ctx, error.param) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the job, and keep what it returns where --metrics says."""
        path = ctx.meta.get("sparknn.metrics")
        if path is None:
            return super().invoke(ctx)
        # Tried before the work, which may take hours.
        session = start_session(f"sparknn {self.name}")
        _write(session, path, None)
        try:
            result = super().invoke(ctx)
        except Finished as finished:
            _write(session, path, f"{closing_line(finished.result)}\n")
            raise
        _write(session, path, f"{closing_line(result)}\n")
        return result

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in sections."""
        reading = {option.name for option in input_options(click.Command(None)).params}
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in SECTIONS}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                known = INPUT if param.name in reading else _section(param)
                sections[known].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _section(param: click.Parameter) -> str:
    name = param.opts[0].removeprefix("--")
    found = [title for title, names in SECTIONS.items() if name in names.split()]
    return found[0] if found else MODEL


def _configure(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.default_map = read_config(value, ctx.command.params)
        ctx.meta["sparknn.config"] = value


def _keep_metrics(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    ctx.meta["sparknn.metrics"] = value


def _write(session: SparkSession, path: str, text: str | None) -> None:
    """Write a small file on any Hadoop file system; no text: see whether one can be written."""
    try:
        system, where = path_on(session, path)
        if system.exists(where) and system.getFileStatus(where).isDirectory():
            raise InvalidDataError(f"--metrics {path} is a directory: name a file")
        if text is None:
            _, where = path_on(session, f"{path}.new-{uuid.uuid4().hex[:8]}")
        stream = system.create(where, True)
        stream.write(bytearray((text or "").encode()))
        stream.close()
        if text is None:
            system.delete(where, False)
    except Py4JJavaError as error:
        reason = explained(str(error)) or plain(error)
        raise InvalidDataError(f"--metrics {path} cannot be written: {reason}") from None
