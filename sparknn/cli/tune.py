"""The tuning job: try settings on k folds, and save the best one, fitted on all rows."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import click
from pyspark.ml import Estimator, PipelineModel
from pyspark.sql import DataFrame, SparkSession
from tqdm import tqdm

from sparknn.cli.command import EPILOG, JobCommand
from sparknn.cli.encoding import Recipe
from sparknn.cli.folds import (
    BINARY_METRICS,
    REGRESSION_METRICS,
    Folds,
    FoldStore,
    Score,
    Scores,
    cross_validated,
    larger_is_better,
    score_models,
)
from sparknn.cli.inputs import Reading
from sparknn.cli.options import (
    logistic_options,
    perceptron_options,
    search_options,
    training_options,
)
from sparknn.cli.outputs import require_free
from sparknn.cli.session import say, start_session
from sparknn.cli.settings import Setting, settings_of
from sparknn.cli.tables import aligned
from sparknn.cli.train import (
    described,
    explained,
    fit_pipeline,
    layers_of,
    make_logistic,
    make_perceptron,
    prepared,
    saved_and_measured,
    suited,
)
from sparknn.cli.training_rows import Job, Rows, set_aside, test_rows, valid_rows
from sparknn.errors import DivergenceError, InvalidDataError
from sparknn.params import DEFAULT_SEED

__all__ = ["tune"]

FIXED = {each.name for part in (Reading, Recipe) for each in fields(part)} | {
    "task",
    "path",
    "label",
    "features",
    "weight_col",
    "validation",
    "test",
    "scale",
    "output",
    "overwrite",
    "checkpoint_dir",
    "checkpoint_interval",
    "seed",
    "num_partitions",
    "grid",
    "ranges",
    "samples",
    "folds",
    "metric",
    "config",
    "explain",
    "metrics",
}
"""Options that are the same for all settings of a search."""

Make = Callable[[dict[str, Any]], tuple[Estimator, list[int] | None]]


@dataclass(frozen=True)
class Candidate:
    """A setting, the estimator that it describes, and hidden layers if it names them alone."""

    setting: Setting
    estimator: Estimator
    hidden: list[int] | None


@click.group("tune", invoke_without_command=True)
@click.pass_context
def tune(context: click.Context) -> None:
    """Search settings by cross-validation, and save the best one's model, fitted on all rows."""
    if context.invoked_subcommand is None:
        raise click.UsageError("say what to tune, logistic or mlp, before the options")


@tune.command("logistic", cls=JobCommand, epilog=EPILOG)
@search_options
@training_options
@logistic_options
@click.pass_context
def tune_logistic(context: click.Context, **options: Any) -> dict[str, Any]:
    """Search settings of a logistic regression."""
    return _tune(context.command, options, make_logistic)


@tune.command("mlp", cls=JobCommand, epilog=EPILOG)
@search_options
@training_options
@perceptron_options
@click.pass_context
def tune_mlp(context: click.Context, **options: Any) -> dict[str, Any]:
    """Search settings of a multilayer perceptron; hidden layers are written as 100x20."""
    return _tune(context.command, options, make_perceptron)


@dataclass(frozen=True)
class Search:
    """What is to be searched, and how settings are compared."""

    candidates: list[Candidate]
    folds: int
    metric: str
    checkpoints: str | None

    @property
    def first(self) -> Estimator:
        """One of the estimators; what is fixed is the same in all."""
        return self.candidates[0].estimator


def _tune(command: click.Command, options: dict[str, Any], make: Make) -> dict[str, Any]:
    """Run the job and return its closing JSON object."""
    began = time.perf_counter()
    job = Job.taken_from(options)
    search = _search(command, options, make)
    session = start_session("sparknn tune")
    if job.explain:
        return _explained(session, job, search)
    require_free(session, job.output, job.overwrite)
    layers = layers_of(search.first, search.candidates[0].hidden)
    rows = valid_rows(session, job, search.first, layers)
    if search.metric in BINARY_METRICS and rows.rules.classes != 2:
        raise InvalidDataError(
            f"--metric {search.metric} is for two classes, and {job.label!r} holds "
            f"{rows.rules.classes}"
        )
    test = test_rows(session, job, rows)
    set_aside(session, job, rows.counts, *([test[1]] if test else []))
    folds = Folds(rows.training, search.folds, search.first.getSeed())
    store = _store(search, job, folds) if search.checkpoints else None
    results = _scored(search, job, rows, folds, store)
    order = _order(results, search.metric)
    say(_table(search, results, order))
    best = search.candidates[order[0]]
    if results[order[0]].failure:
        raise DivergenceError(f"every setting failed; the first: {results[0].failure}")
    if store:
        best.estimator.setCheckpointDir(f"{store.directory}/best")
    pipeline, fitted = fit_pipeline(rows, job, best.estimator, best.hidden)
    say(f"the best one trained on {fitted.rows} rows, {fitted.iterations} epochs: {fitted.reason}")
    measured = saved_and_measured(session, job, pipeline, rows.held, test)
    if store:
        store.clear(search.folds)
    return {
        "job": "tune",
        "model": command.name,
        **described(pipeline, fitted, rows),
        "metric": search.metric,
        "folds": search.folds,
        "settings": [_told(search, results, index) for index in order],
        "best": _told(search, results, order[0]),
        **measured,
        "seconds": round(time.perf_counter() - began, 2),
        "output": job.output,
    }


def _explained(session: SparkSession, job: Job, search: Search) -> dict[str, Any]:
    """Say what would be searched, by the first setting, and return the closing JSON object."""
    first = search.candidates[0]
    told = explained("tune", session, job, first.estimator, first.hidden)
    fits = search.folds * len(search.candidates)
    say(
        f"that is the first of {len(search.candidates)} settings, on all rows: {fits} fits of "
        f"{search.folds - 1}/{search.folds} of the rows come first"
    )
    return {**told, "settings": len(search.candidates), "folds": search.folds, "fits": fits}


def _search(command: click.Command, options: dict[str, Any], make: Make) -> Search:
    """Make the candidates, and say what is wrong with one before any data is read."""
    grid, ranges, samples = (options.pop(name) for name in ("grid", "ranges", "samples"))
    folds, metric = options.pop("folds"), _metric(options.pop("metric"), options.get("task"))
    checkpoints = options.pop("checkpoint_dir")
    known = {
        option.opts[0].removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option) and option.name not in FIXED
    }
    for name, _ in [*grid, *ranges]:
        if name in known and options[str(known[name].name)] is not None:
            raise click.UsageError(f"--{name} is given, and searched, too: do one of the two")
    seed = DEFAULT_SEED if options["seed"] is None else options["seed"]
    candidates = []
    for setting in settings_of(known, grid, ranges, samples, seed):
        estimator, hidden = make({**options, **setting.options})
        estimator._check()
        candidates.append(Candidate(setting, estimator, hidden))
    outer = {tuple(_outer(layers_of(each.estimator, each.hidden))) for each in candidates}
    if len(outer) > 1:
        raise click.UsageError("layers must begin and end alike in all settings, by the data")
    return Search(candidates, folds, metric, checkpoints)


def _metric(name: str | None, task: str | None) -> str:
    """Return what decides, which must be a metric of the task."""
    regression = task == "regression"
    if name is None:
        return "rmse" if regression else "accuracy"
    if (name in REGRESSION_METRICS) != regression:
        raise click.UsageError(f"--metric {name} is not one of {task or 'classification'}")
    return name


def _outer(layers: list[int] | None) -> list[int]:
    return [layers[0], layers[-1]] if layers else []


def _scored(
    search: Search, job: Job, rows: Rows, folds: Folds, store: FoldStore | None
) -> list[Scores]:
    """Return the candidates' scores; the preprocessing is fitted once a fold, on its own rows."""
    total = search.folds * len(search.candidates)
    watched = sys.stderr.isatty()
    with tqdm(total=total, unit="setting", disable=not watched, leave=False) as bar:

        def score_fold(training: DataFrame, held: DataFrame, number: int) -> list[Score]:
            stages, features, data = prepared(rows, training, job)
            estimators = []
            for each in search.candidates:
                estimators.append(suited(each.estimator, each.hidden, rows, job, data, features))
                if store:
                    each.estimator.setCheckpointDir(store.of_fold(number))
            held = PipelineModel(stages).transform(held)
            return score_models(estimators, data, held, search.metric, bar.update)

        return cross_validated(folds, score_fold, store)


def _store(search: Search, job: Job, folds: Folds) -> FoldStore:
    described = {
        "folds": search.folds,
        "metric": search.metric,
        "scale": job.scale,
        "label": job.label,
        **vars(job.recipe),
        "rows": folds.marks,
        "settings": [each.estimator._settings() for each in search.candidates],
    }
    return FoldStore(folds.data.sparkSession, str(search.checkpoints), described)


def _order(results: list[Scores], metric: str) -> list[int]:
    """Return the settings' numbers from best to failed; of equal ones the first comes first."""
    sign = -1 if larger_is_better(metric) else 1
    means = [math.inf if each.mean is None else sign * each.mean for each in results]
    return sorted(range(len(results)), key=means.__getitem__)


def _table(search: Search, results: list[Scores], order: list[int]) -> str:
    """Return the results as lines of aligned columns."""
    names = list(search.candidates[0].setting.shown)
    lines = [[search.metric, "deviation", *names]]
    for index in order:
        result, shown = results[index], search.candidates[index].setting.shown
        numbers = ["failed", ""]
        if result.mean is not None and result.deviation is not None:
            numbers = [f"{result.mean:.6g}", f"{result.deviation:.3g}"]
        lines.append([*numbers, *shown.values()])
    reasons = [results[index].failure for index in order]
    return "\n".join(
        text if not reason else f"{text}  {reason}"
        for text, reason in zip(aligned(lines), [None, *reasons], strict=True)
    )


def _told(search: Search, results: list[Scores], index: int) -> dict[str, Any]:
    """Return what the closing JSON says of a setting."""
    setting, result = search.candidates[index].setting, results[index]
    told = {
        "setting": dict(zip(setting.shown, setting.options.values(), strict=True)),
        "mean": result.mean,
        "deviation": result.deviation,
        "values": result.values,
    }
    return {**told, "failure": result.failure} if result.failure else told
