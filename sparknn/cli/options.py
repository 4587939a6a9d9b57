"""The options that jobs share: one vocabulary, written down once.

Options that set an estimator's param carry its name in kebab case and have no default of their
own: what is not given is left to the estimator.
"""

from __future__ import annotations

from typing import Any

import click

from sparknn.activations import ACTIVATIONS
from sparknn.boltzmann import UNITS
from sparknn.classification import LogisticRegression, MultilayerPerceptronClassifier
from sparknn.cli.folds import METRICS
from sparknn.cli.input_options import Decorator, group, input_options, recipe_options
from sparknn.cli.settings import Range, Values
from sparknn.cli.types import Names, Numbers
from sparknn.feature.params import MOMENTUM_SCHEDULES
from sparknn.optimizers import SCHEDULES

__all__ = [
    "belief_options",
    "columns_option",
    "estimator_params",
    "feature_options",
    "keep_option",
    "labelled_options",
    "logistic_options",
    "machine_options",
    "output_options",
    "perceptron_options",
    "prediction_options",
    "regressor_options",
    "scale_option",
    "scoring_options",
    "search_options",
    "seed_option",
    "single",
    "training_options",
    "validation_option",
]


columns_option = click.option(
    "--features",
    help="One vector or array column, or numeric ones with commas between them. By default "
    "the column 'features', else all but the label.",
)

scale_option = click.option(
    "--scale",
    type=click.Choice(["standard", "minmax", "none"]),
    default="none",
    show_default=True,
    help="Columns to mean 0 and deviation 1, or into [0, 1]; saved with the model.",
)

output_options = group(
    click.option("--output", help="Where to save the model with its preprocessing."),
    click.option("--overwrite", is_flag=True, help="Replace what is at the output."),
)


def validation_option(share: float) -> Decorator:
    """Return --validation with a default."""
    return click.option(
        "--validation",
        type=click.FloatRange(0, 1, max_open=True),
        default=share,
        show_default=True,
        help="Share of the rows held out to measure the model, such as 0.1.",
    )


feature_options = group(
    input_options,
    recipe_options,
    columns_option,
    validation_option(0.0),
    scale_option,
    output_options,
)

labelled_options = group(
    click.option("--label", default="label", show_default=True, help="Label column."),
    click.option("--weight", "weight_col", help="Column of row weights."),
    click.option("--test", help="Rows to measure the model on, in the input's format."),
)

seed_option = click.option(
    "--seed", type=click.IntRange(-(2**63), 2**63 - 1), help="Of all that is random."
)

_minibatch_options = group(
    click.option("--max-iter", type=int, help="Epochs, or iterations of a full-batch solver."),
    click.option("--tol", type=float, help="Relative change of the loss at which to stop."),
    click.option("--reg-param", type=float, help="Strength of the penalty."),
    click.option("--step-size", type=float, help="Of the minibatch solvers and gd."),
    click.option(
        "--step-size-schedule",
        type=click.Choice(list(SCHEDULES)),
        help="How the step size goes over the epochs.",
    ),
    click.option("--momentum", type=float, help="Of sgd."),
    click.option("--block-size", type=int, help="Rows per partition and minibatch step."),
    click.option("--steps-per-round", type=int, help="Local steps between two averagings."),
    click.option(
        "--checkpoint-dir",
        help="Where to save the fit's state on the way: a killed job, run again, goes on from it.",
    ),
    click.option("--checkpoint-interval", type=int, help="Epochs or iterations between them."),
    seed_option,
    click.option(
        "--partitions",
        "num_partitions",
        type=int,
        help="Partitions that train; by default one per core.",
    ),
)

training_options = group(
    feature_options,
    labelled_options,
    _minibatch_options,
    click.option("--gradient-tol", type=float, help="Gradient at which a full-batch solver stops."),
    click.option("--elastic-net-param", type=float, help="Share of L1 in the penalty, 0 to 1."),
)

logistic_options = group(
    click.option(
        "--solver",
        type=click.Choice(LogisticRegression.SOLVERS),
        help="l-bfgs (the default) goes by all rows at once, sgd by minibatches.",
    ),
    click.option(
        "--family",
        type=click.Choice(["auto", "binomial", "multinomial"]),
        help="One margin for two classes, or one for each class; by default as the labels ask.",
    ),
    click.option(
        "--fit-intercept/--no-fit-intercept", default=None, help="A constant term; by default yes."
    ),
    click.option(
        "--standardization/--no-standardization",
        default=None,
        help="Whether columns are scaled inside the fit; by default yes.",
    ),
)

_task_option = click.option(
    "--task",
    type=click.Choice(["classification", "regression"]),
    default="classification",
    show_default=True,
    help="Whether labels are classes, or numbers to come close to.",
)

_loss_option = click.option(
    "--loss",
    type=click.Choice(["crossEntropy", "squared", "absolute", "huber"]),
    help="crossEntropy or squared of classes; squared, absolute or huber of numbers.",
)

_dropout_option = click.option(
    "--dropout",
    type=Numbers(float),
    help="Of hidden units, with sgd and adam; or a list: the inputs' rate, then each layer's.",
)


def _solver_option(default: str) -> Decorator:
    """Return a network's --solver; default: the estimator's own."""
    return click.option(
        "--solver",
        type=click.Choice(MultilayerPerceptronClassifier.SOLVERS),
        help="How to find the weights: sgd and adam go by minibatches, the others by all rows at "
        f"once; by default {default}.",
    )


_network_options = group(
    _solver_option("l-bfgs"),
    click.option(
        "--hidden",
        type=Numbers(int),
        help="Sizes of the hidden layers, such as 300,100; the others follow from the data.",
    ),
    click.option("--layers", type=Numbers(int), help="Sizes of all layers, in place of --hidden."),
    click.option("--activation", type=Names(ACTIVATIONS), help="Of hidden units."),
    _dropout_option,
)

regressor_options = group(
    _network_options,
    click.option(
        "--loss",
        type=click.Choice(["squared", "absolute", "huber"]),
        help="What to make small; absolute and huber mind rows far off less.",
    ),
)

perceptron_options = group(
    _task_option,
    _network_options,
    _loss_option,
    click.option(
        "--class-weights",
        type=Numbers(float),
        help="What rows of each class weigh, such as 1,5, times their own weights.",
    ),
)

_visible_option = click.option(
    "--visible-type",
    type=click.Choice(list(UNITS)),
    help="Features in [0, 1] (binary, the default), or standardised ones (gaussian).",
)

belief_options = group(
    _task_option,
    click.option(
        "--hidden",
        type=Numbers(int),
        required=True,
        help="Sizes of the hidden layers, such as 500,500,2000; the others follow from the data.",
    ),
    _visible_option,
    *[
        click.option(
            f"--pretrain-{name}",
            type=kind,
            help=f"{text} One value, or a list with one for each hidden layer.",
        )
        for name, kind, text in (
            ("max-iter", Numbers(int), "Epochs of each layer's pre-training."),
            ("step-size", Numbers(float), "Of the pre-training."),
            ("step-size-schedule", Names(list(SCHEDULES)), "Of the pre-training."),
            ("momentum", Numbers(float), "Of the pre-training."),
            ("momentum-schedule", Names(MOMENTUM_SCHEDULES), "How that goes over the epochs."),
            ("reg-param", Numbers(float), "Penalty of the pre-training."),
            ("block-size", Numbers(int), "Rows per partition and step of the pre-training."),
            ("steps-per-round", Numbers(int), "Local steps between two averagings of it."),
            ("cd-steps", Numbers(int), "Steps of Gibbs sampling in each step."),
        )
    ],
    click.option(
        "--pretrain-persistent/--no-pretrain-persistent",
        default=None,
        help="The pre-training's chains go on step by step.",
    ),
    click.option(
        "--pretrain-sample-visible/--pretrain-visible-means",
        default=None,
        help="Sample these chains' visible units (the default), or take their means.",
    ),
    _solver_option("sgd"),
    _loss_option,
    _dropout_option,
)

machine_options = group(
    feature_options,
    click.option("--label", help="A column to leave aside."),
    click.option("--num-hidden", type=int, help="Hidden units."),
    _visible_option,
    click.option("--hidden-type", type=click.Choice(list(UNITS)), help="By default binary."),
    click.option("--cd-steps", type=int, help="Steps of Gibbs sampling in each step."),
    click.option("--persistent/--no-persistent", default=None, help="Chains go on step by step."),
    click.option(
        "--sample-visible/--visible-means",
        default=None,
        help="Sample the chains' visible units (the default), or take their means.",
    ),
    click.option(
        "--momentum-schedule",
        type=click.Choice(MOMENTUM_SCHEDULES),
        help="How momentum goes over the epochs; by default step: 0.5 for 5 epochs, then all.",
    ),
    click.option("--sparsity-target", type=float, help="Wanted mean of hidden units."),
    click.option("--sparsity-cost", type=float, help="How strongly they are drawn to it."),
    click.option("--max-norm", type=float, help="Largest length of the weights into a unit."),
    _minibatch_options,
)

keep_option = click.option(
    "--keep",
    help="Columns of the input to write beside the model's own, such as an id, with commas "
    "between them. By default all.",
)

search_options = group(
    click.option(
        "--grid",
        type=Values(),
        multiple=True,
        help="An option and the values to try, such as reg-param=0,0.01,0.1, as often as there "
        "are options to search: all combinations are tried. Sizes within a value have an x "
        "between them: hidden=100,50x20.",
    ),
    click.option(
        "--range",
        "ranges",
        type=Range(),
        multiple=True,
        help="An option and a range to draw from, such as step-size=log:0.001:0.1; or linear, or "
        "int.",
    ),
    click.option(
        "--samples",
        type=click.IntRange(min=1),
        help="Random search: draw so many settings from what --grid and --range allow.",
    ),
    click.option(
        "--folds",
        type=click.IntRange(min=2),
        default=3,
        show_default=True,
        help="Parts of the rows, each of which is held out once.",
    ),
    click.option(
        "--metric",
        type=click.Choice(METRICS),
        help="What decides, by its mean over the rows held out in each fold, unweighted; by "
        "default accuracy, for --task regression rmse.",
    ),
)

scoring_options = group(
    click.option("--model", required=True, help="What a training job saved."),
    input_options,
    click.option(
        "--missing",
        type=click.Choice(["fail", "drop"]),
        default="fail",
        show_default=True,
        help="What to do about empty cells that the model does not fill: stop, or leave rows out.",
    ),
)

prediction_options = group(
    scoring_options,
    click.option("--output", required=True, help="Where to write Parquet."),
    click.option("--overwrite", is_flag=True, help="Replace what is at the output."),
    keep_option,
    click.option(
        "--columns",
        help="All columns to write, in place of --keep, with commas between them. By default the "
        "input's and prediction, probability, rawPrediction and, where labels are words, "
        "predictedLabel; of clusters cluster, of an RBM hidden.",
    ),
)


def estimator_params(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, under the names of the estimator's params."""
    given = {name: value for name, value in options.items() if value is not None}
    return {_camel(name): value for name, value in given.items()}


def single(values: list) -> Any:
    """Return the value of a list of one, which stands for all; else the list."""
    return values[0] if len(values) == 1 else values


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
