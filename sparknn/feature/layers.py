"""Params with a value for each layer of a deep belief network, or one for all.

A layer is trained as an `RBM` is, so these are the RBM's params, by the RBM's names; where an
estimator has a training of its own beside, they are called pretrainMaxIter and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from pyspark.ml.param import Param, Params, TypeConverters

from sparknn.errors import InvalidParamError
from sparknn.feature.rbm import RBM
from sparknn.params import require

__all__ = ["HasLayerTraining", "HasLayers", "with_layer_settings"]

SETTINGS = {
    "maxIter": TypeConverters.toInt,
    "stepSize": TypeConverters.toFloat,
    "stepSizeSchedule": TypeConverters.toString,
    "momentum": TypeConverters.toFloat,
    "momentumSchedule": TypeConverters.toString,
    "regParam": TypeConverters.toFloat,
    "blockSize": TypeConverters.toInt,
    "stepsPerRound": TypeConverters.toInt,
    "tol": TypeConverters.toFloat,
    "cdSteps": TypeConverters.toInt,
    "persistent": TypeConverters.toBoolean,
    "sampleVisible": TypeConverters.toBoolean,
    "sparsityTarget": TypeConverters.toFloat,
    "sparsityCost": TypeConverters.toFloat,
    "maxNorm": TypeConverters.toFloat,
}
"""The RBM's params that each layer may have a value of its own of."""


class HasLayers(Params):
    """What a deep belief network is: `layers`, `visibleType`."""

    layers: Param[list[int]] = Param(
        Params._dummy(),
        "layers",
        "sizes of the input and of each hidden layer",
        typeConverter=TypeConverters.toListInt,
    )
    visibleType: Param[str] = Param(
        Params._dummy(),
        "visibleType",
        "of the input; binary: values in [0, 1]; gaussian: standardised values, with unit variance",
        typeConverter=TypeConverters.toString,
    )

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._setDefault(visibleType="binary")

    def getLayers(self) -> list[int]:
        """Gets the value of layers."""
        return self.getOrDefault(self.layers)

    def getVisibleType(self) -> str:
        """Gets the value of visibleType or its default value."""
        return self.getOrDefault(self.visibleType)

    @property
    def _top_type(self) -> str:
        """The type of the last hidden layer's units."""
        return "binary"


class HasLayerTraining(HasLayers):
    """How a deep belief network is trained, layer by layer; see `with_layer_settings`.

    PREFIX: what the names of layers' settings begin with.
    """

    PREFIX = ""

    def __init__(self, *args: Any):
        super().__init__(*args)
        rbm = RBM()
        for name in SETTINGS:
            # What an RBM's step size is where none is set depends on its units.
            if rbm.isDefined(name) and name != "stepSize":
                self._setDefault(**{prefixed(self.PREFIX, name): rbm.getOrDefault(name)})

    def _rbms(self) -> list[RBM]:
        """Return an RBM for each hidden layer, with that layer's settings.

        Raises InvalidParamError for what is out of range, or not one value for each layer.
        """
        sizes = self._require_layers()
        count = len(sizes) - 1
        rbms = []
        for number, (_, hidden) in enumerate(pairwise(sizes)):
            rbm = RBM(
                featuresCol=self.getOrDefault("featuresCol"),
                numHidden=hidden,
                visibleType=self.getVisibleType() if number == 0 else "binary",
                hiddenType=self._top_type if number == count - 1 else "binary",
                seed=self.getOrDefault("seed") + number,
                # What an upper layer sees are probabilities.
                handleInvalid=self.getOrDefault("handleInvalid") if number == 0 else "keep",
            )
            rbm._set(**self._settings_of(number, count))
            self._check_layer(rbm, number)
            rbms.append(rbm)
        return rbms

    @property
    def _bounds(self) -> tuple[float, float] | None:
        """Between what values must be where rows with others are left out."""
        return self._rbms()[0]._wanted().bounds

    def _require_layers(self) -> list[int]:
        if not self.isSet(self.layers):
            raise InvalidParamError(
                f"{type(self).__name__}: set layers to the sizes of the input and of each hidden "
                "layer, such as [784, 500, 500, 2000]"
            )
        require(
            self, "layers", lambda v: len(v) > 1 and min(v) > 0, "two or more sizes of at least 1"
        )
        return self.getLayers()

    def _settings_of(self, number: int, count: int) -> dict[str, Any]:
        """Return the settings that are defined, with the values for one layer."""
        found = {}
        for name in SETTINGS:
            own = prefixed(self.PREFIX, name)
            # An RBM's momentum where none is set depends on its chains.
            if not self.isDefined(own) or (name == "momentum" and not self.isSet(own)):
                continue
            value = self.getOrDefault(own)
            if isinstance(value, list):
                require(
                    self,
                    own,
                    lambda v: len(v) == count,
                    f"one value or {count}, one a hidden layer",
                )
                value = value[number]
            found[name] = value
        return found

    def _check_layer(self, rbm: RBM, number: int) -> None:
        try:
            rbm._check()
        except InvalidParamError as error:
            # The RBM's own name for the param is ours with the prefix.
            text = str(error).removeprefix("RBM: ")
            name = text.split(" ")[0]
            if name in SETTINGS:
                text = prefixed(self.PREFIX, name) + text.removeprefix(name)
            where = f"{type(self).__name__}, hidden layer {number + 1}"
            raise InvalidParamError(f"{where}: {text}") from None


def with_layer_settings(kind: type) -> type:
    """Give a class the params of its layers' training, with getters, named after its PREFIX."""
    for name, convert in SETTINGS.items():
        own = prefixed(kind.PREFIX, name)  # type: ignore[attr-defined]
        doc = getattr(RBM, name).doc
        param = Param(
            Params._dummy(),
            own,
            "of each layer's training, as of an RBM; one value, or a list with one for each "
            f"hidden layer: {doc}",
            typeConverter=_one_or_each(convert),
        )
        setattr(kind, own, param)
        getter = f"get{own[0].upper()}{own[1:]}"
        setattr(kind, getter, _getter(own, getter))
    return kind


def prefixed(prefix: str, name: str) -> str:
    """Return what a layer's setting is called."""
    return f"{prefix}{name[0].upper()}{name[1:]}" if prefix else name


def _one_or_each(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def converted(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [convert(each) for each in value]
        return convert(value)

    return converted


def _getter(name: str, getter: str) -> Callable:
    def get_value(self: Params) -> Any:
        return self.getOrDefault(name)

    get_value.__name__ = getter
    get_value.__doc__ = f"Gets the value of {name} or its default value."
    return get_value
