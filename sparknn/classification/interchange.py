"""Models to and from MLlib's own.

MLlib's loader, in the JVM, reads what MLlib saved; here only params and weights move over.
"""

from __future__ import annotations

import pyspark.ml.classification as mllib
from pyspark.ml.param import Params
from pyspark.ml.wrapper import JavaParams, JavaWrapper

__all__ = ["from_mllib", "model_to_mllib"]


def from_mllib(theirs: JavaParams, ours: Params) -> Params:
    """Return `ours` with MLlib's uid, and the params, and defaults, that both have."""
    ours._resetUid(theirs.uid)
    return theirs._copyValues(ours)


def model_to_mllib(ours: Params, *arguments) -> JavaParams:
    """Return MLlib's model, made of `arguments`, with ours' uid and params.

    It is of the name of ours, or else of the nearest class that ours is derived from.
    """
    name = next(kind.__name__ for kind in type(ours).__mro__ if hasattr(mllib, kind.__name__))
    java = JavaWrapper._new_java_obj(
        f"org.apache.spark.ml.classification.{name}", ours.uid, *arguments
    )
    theirs = getattr(mllib, name)(java)
    ours._copyValues(theirs)
    solver = theirs.hasParam("solver") and theirs.getOrDefault("solver")
    if solver not in (False, "l-bfgs", "gd"):
        # How it was trained; MLlib knows no such solver, and a model needs none.
        theirs.clear(theirs.getParam("solver"))
        theirs._setDefault(solver="l-bfgs")
    theirs._transfer_params_to_java()
    return theirs
