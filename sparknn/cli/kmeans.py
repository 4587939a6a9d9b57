"""The job that clusters rows by k-means, for one or several numbers of clusters."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from pyspark import StorageLevel
from pyspark.ml import PipelineModel, Transformer
from pyspark.ml.clustering import KMeans, KMeansModel
from pyspark.ml.evaluation import ClusteringEvaluator
from pyspark.ml.feature import MinMaxScalerModel, StandardScalerModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.cli.checking import Rules
from sparknn.cli.command import EPILOG, JobCommand
from sparknn.cli.explain import Counted
from sparknn.cli.input_options import group
from sparknn.cli.options import (
    estimator_params,
    feature_options,
    keep_option,
    seed_option,
)
from sparknn.cli.outputs import require_free, write_aside
from sparknn.cli.preparation import fit_stages, made_on_the_way, require_unused
from sparknn.cli.session import say, start_session
from sparknn.cli.tables import aligned
from sparknn.cli.train_rbm import look_at_unlabelled, unlabelled_rows
from sparknn.cli.training_rows import Job, set_aside
from sparknn.cli.types import Numbers, names_in
from sparknn.errors import InvalidDataError
from sparknn.params import DEFAULT_SEED
from sparknn.saved import unquoted
from sparknn.schema import column_type, feature_names, quoted, stage_name

__all__ = ["kmeans"]

CLUSTER = "cluster"
"""The column of the cluster that a row is in."""


cluster_options = group(
    feature_options,
    click.option("--label", help="A column to leave aside."),
    click.option(
        "--k",
        "counts",
        type=Numbers(int),
        required=True,
        multiple=True,
        help="How many clusters; several with commas between them, to be compared.",
    ),
    click.option(
        "--init-mode",
        type=click.Choice(["k-means||", "random"]),
        help="How the first centres are chosen; by default k-means||.",
    ),
    click.option("--init-steps", type=int, help="Passes of k-means||; by default 2."),
    click.option(
        "--distance-measure",
        type=click.Choice(["euclidean", "cosine"]),
        help="By default euclidean; cosine minds directions alone.",
    ),
    click.option("--max-iter", type=int, help="Iterations at most; by default 20."),
    click.option("--tol", type=float, help="How far centres move when it stops; default 0.0001."),
    seed_option,
    keep_option,
)


@dataclass(frozen=True)
class Clustering:
    """What came of one number of clusters.

    cost: the sum of squared distances from the centres. silhouette: -1 to 1 (Rousseeuw, 1987, of
    squared distances), None where rows are in one cluster only.
    """

    model: KMeansModel
    clusters: int
    cost: float
    silhouette: float | None
    seconds: float

    @property
    def told(self) -> dict[str, Any]:
        """What the closing JSON says of it."""
        return {
            "k": self.model.getK(),
            "clusters": self.clusters,
            "cost": self.cost,
            "silhouette": self.silhouette,
            "iterations": self.model.summary.numIter,
            "seconds": round(self.seconds, 2),
        }


@click.command("kmeans", cls=JobCommand, epilog=EPILOG)
@cluster_options
def kmeans(counts: tuple[list[int], ...], keep: str | None, **options: Any) -> dict[str, Any]:
    """Cluster rows by k-means||, for one or several numbers of clusters.

    The clustering with the largest silhouette is saved: a model for predict.py, and in it the
    directories centres and assignments, Parquet. Columns of very different size want --scale.
    """
    began = time.perf_counter()
    options |= {"test": None, "label": options["label"] or ""}
    job = Job.taken_from(options)
    wanted = list(dict.fromkeys(count for each in counts for count in each))
    params = _params(wanted, options)
    session = start_session("sparknn kmeans")
    # After the session: MLlib's estimators are objects of its JVM.
    estimators = [KMeans(k=count, predictionCol=CLUSTER, **params) for count in wanted]
    if job.explain:
        return _explained(job, wanted, *look_at_unlabelled(session, job, CLUSTER))
    require_free(session, job.output, job.overwrite)
    rows = unlabelled_rows(session, job, CLUSTER, estimators[0].getSeed())
    require_unused(rows.whole.columns, [CLUSTER])
    kept = _kept(rows.whole, keep)
    set_aside(session, job, rows.counts)
    stages, features = fit_stages(
        rows.training, rows.rules, job.scale, None, job.recipe, rows.words
    )
    _require_taken(features)
    pipeline = PipelineModel(stages)
    require_unused(rows.whole.columns, made_on_the_way(pipeline))
    data = pipeline.transform(rows.training).select(F.col(quoted(features)).alias("features"))
    found = _clusterings(estimators, data)
    best = max(found, key=lambda each: -2 if each.silhouette is None else each.silhouette)
    for line in _table(found):
        say(line)
    best.model.setFeaturesCol(features)
    pipeline = PipelineModel([*stages, best.model])
    if job.output:
        _save(session, pipeline, rows.whole, kept, job)
        say(f"saved k {best.model.getK()}, its centres and assignments, to {job.output}")
    return {
        "job": "kmeans",
        "rows": sum(best.model.summary.clusterSizes),
        "skipped": rows.counts.left_out,
        "input": rows.counts.as_json(),
        "features": len(best.model.clusterCenters()[0]),
        "clusterings": [each.told for each in found],
        "best": {**best.told, "sizes": best.model.summary.clusterSizes},
        **({} if rows.held is None else {"validation": _measured(pipeline, rows.held)}),
        "seconds": round(time.perf_counter() - began, 2),
        "output": job.output,
    }


def _params(wanted: list[int], options: dict[str, Any]) -> dict[str, Any]:
    """Return what all numbers of clusters share; say what is wrong with an option."""
    if not wanted or min(wanted) < 2:
        raise click.UsageError("--k is a number of clusters of at least 2, or several: 2,5,10")
    params = {"seed": DEFAULT_SEED, **estimator_params(options)}
    for name, least in (("maxIter", 0), ("tol", 0), ("initSteps", 1)):
        if params.get(name, least) < least:
            option = {"maxIter": "--max-iter", "tol": "--tol", "initSteps": "--init-steps"}[name]
            raise click.UsageError(f"{option} must be at least {least}, got {params[name]}")
    return params


def _require_taken(features: str) -> None:
    """Raise InvalidDataError for a name that MLlib's k-means takes neither quoted nor as it is."""
    if stage_name(features) != features:
        raise InvalidDataError(
            f"column {features!r}: k-means takes no vector whose name has a dot or a backtick: "
            "rename it"
        )


def _kept(data: DataFrame, keep: str | None) -> list[str]:
    """Return which columns stand beside the clusters."""
    names = data.columns if keep is None else names_in(keep)
    for name in names:
        column_type(data, name)
    return list(dict.fromkeys(names))


def _clusterings(estimators: list[KMeans], data: DataFrame) -> list[Clustering]:
    """Cluster the rows once for each estimator, and measure it."""
    found = []
    data = data.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        for estimator in estimators:
            began = time.perf_counter()
            model = estimator.fit(data)
            sizes = model.summary.clusterSizes
            several = sum(size > 0 for size in sizes) > 1
            silhouette = _silhouette(model.transform(data), model) if several else None
            seconds = time.perf_counter() - began
            cost = model.summary.trainingCost
            found.append(Clustering(model, len(model.clusterCenters()), cost, silhouette, seconds))
    finally:
        data.unpersist()
    return found


def _silhouette(clustered: DataFrame, model: KMeansModel) -> float:
    """Return the mean silhouette of rows, in the distance by which they were clustered."""
    evaluator = ClusteringEvaluator(featuresCol=model.getFeaturesCol(), predictionCol=CLUSTER)
    if model.getDistanceMeasure() == "cosine":
        evaluator.setDistanceMeasure("cosine")
    return evaluator.evaluate(clustered)


def _measured(pipeline: PipelineModel, held: DataFrame) -> dict[str, Any]:
    """Return how many rows were held out, and their silhouette, if they are in several clusters."""
    clustered, model = pipeline.transform(held), pipeline.stages[-1]
    rows, clusters = clustered.agg(F.count("*"), F.count_distinct(CLUSTER)).first() or (0, 0)
    return {
        "rows": rows,
        "silhouette": _silhouette(clustered, model) if clusters > 1 else None,
    }


def _table(found: list[Clustering]) -> list[str]:
    """Return what came of each number of clusters, as lines of aligned columns."""
    lines = [["k", "clusters", "silhouette", "cost", "iterations"]]
    for each in found:
        told = each.told
        silhouette = "none" if each.silhouette is None else f"{each.silhouette:.4f}"
        cost = f"{each.cost:.6g}"
        lines.append(
            [str(told["k"]), str(each.clusters), silhouette, cost, str(told["iterations"])]
        )
    return aligned(lines)


def _save(
    session: SparkSession,
    pipeline: PipelineModel,
    data: DataFrame,
    kept: list[str],
    job: Job,
) -> None:
    """Save the model and, in its directory, the centres and which row is in which cluster."""
    columns = [F.col(quoted(name)) for name in kept]
    assignments = pipeline.transform(data).select(*columns, CLUSTER)
    centres = _centres(session, pipeline, data)

    def write(place: str) -> None:
        pipeline.save(place)
        centres.coalesce(1).write.parquet(f"{place}/centres")
        assignments.write.parquet(f"{place}/assignments")

    write_aside(session, str(job.output), job.overwrite, write, PipelineModel.load)


def _centres(session: SparkSession, pipeline: PipelineModel, data: DataFrame) -> DataFrame:
    """Return the centres in the units of the input: a column for each feature, or one of arrays."""
    *stages, model = pipeline.stages
    centres = np.stack(model.clusterCenters())
    made = PipelineModel(stages).transform(data)
    names = list(feature_names(made, model.getFeaturesCol()))
    for scaler in stages:
        if isinstance(scaler, (StandardScalerModel, MinMaxScalerModel)):
            # Bins and categories, which nobody scales, stand behind the numbers.
            before = feature_names(made, unquoted(scaler.getInputCol()))
            count = len(_shift(scaler))
            centres[:, :count] = _unscaled(scaler, centres[:, :count])
            names = [*before, *names[count:]] if before else []
    if len(names) != centres.shape[1]:
        rows = [(index, centre) for index, centre in enumerate(centres.tolist())]
        return session.createDataFrame(rows, f"{CLUSTER} int, centre array<double>")
    types = ", ".join(f"{quoted(name)} double" for name in names)
    rows = [(index, *centre) for index, centre in enumerate(centres.tolist())]
    return session.createDataFrame(rows, f"{CLUSTER} int, {types}")


def _shift(scaler: Transformer) -> np.ndarray:
    """Return what a scaler takes away of each of its columns."""
    standard = isinstance(scaler, StandardScalerModel)
    return (scaler.mean if standard else scaler.originalMin).toArray()


def _unscaled(scaler: Transformer, centres: np.ndarray) -> np.ndarray:
    """Return (clusters, features) as they were before the scaler."""
    if isinstance(scaler, StandardScalerModel):
        return centres * scaler.std.toArray() + _shift(scaler)
    low, high = _shift(scaler), scaler.originalMax.toArray()
    # A constant column, which the scaler puts in the middle, stays what it is.
    return np.where(high > low, low + centres * (high - low), low)


def _explained(
    job: Job, wanted: list[int], data: DataFrame, rules: Rules, counted: Counted
) -> dict[str, Any]:
    """Say what would be clustered, and return the closing JSON object."""
    numbers = [rules.width * count for count in wanted]
    say(f"{job.path}: {counted}, {rules.width} features; k-means for k {wanted}")
    say(f"{', '.join(map(str, numbers))} numbers in the centres; nothing was computed")
    return {
        "job": "kmeans",
        "explain": True,
        "rows": counted.rows,
        "rowsExact": counted.exact,
        "partitions": data.rdd.getNumPartitions(),
        "features": rules.width,
        "k": wanted,
        "parameters": numbers,
    }
