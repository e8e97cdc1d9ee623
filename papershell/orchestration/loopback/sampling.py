"""The hyperparameters of a sweep's runs, drawn as HyperDrive describes them: random and grid sampling."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import werkzeug.exceptions as http

Values = dict[str, Any]


def _rounded(value: float, step: float) -> float:
    return round(value / step) * step


# azureml.train.hyperdrive.parameter_expressions states each of them.
_DISTRIBUTIONS: dict[str, Callable[..., Any]] = {
    "choice": lambda r, options: r.choice(options),
    "randint": lambda r, upper: r.randrange(upper),
    "uniform": lambda r, low, high: r.uniform(low, high),
    "quniform": lambda r, low, high, q: _rounded(r.uniform(low, high), q),
    "loguniform": lambda r, low, high: math.exp(r.uniform(low, high)),
    "qloguniform": lambda r, low, high, q: _rounded(math.exp(r.uniform(low, high)), q),
    "normal": lambda r, mu, sigma: r.normalvariate(mu, sigma),
    "qnormal": lambda r, mu, sigma, q: _rounded(r.normalvariate(mu, sigma), q),
    "lognormal": lambda r, mu, sigma: math.exp(r.normalvariate(mu, sigma)),
    "qlognormal": lambda r, mu, sigma, q: _rounded(math.exp(r.normalvariate(mu, sigma)), q),
}


def samples(generator: Mapping[str, Any], source: random.Random) -> Iterator[Values]:
    """Return the parameters of one run after another: all of the grid, or random ones without end.

    Parameters
    ----------
    generator : HyperDrive's ``generator_config``: ``name`` and ``parameter_space``, for each parameter the name of a
        distribution and its arguments.

    Raises
    ------
    werkzeug.exceptions.BadRequest
        The sampling or a distribution is of another kind, or its arguments do not fit.
    """
    space = generator["parameter_space"]
    method = str(generator["name"]).upper()
    if method not in ("RANDOM", "GRID"):
        raise http.BadRequest(
            f"sampling by {generator['name']} is missing here; take random or grid sampling"
        )
    for name, (distribution, _) in space.items():
        if distribution not in _DISTRIBUTIONS or (method == "GRID" and distribution != "choice"):
            raise http.BadRequest(
                f"parameter {name!r} cannot be drawn by {distribution} in {method} sampling"
            )
    if method == "GRID":
        grid = itertools.product(*(options for _, (options,) in space.values()))
        return (dict(zip(space, values, strict=True)) for values in grid)
    first = _drawn(space, source)
    return itertools.chain([first], _without_end(space, source))


def _without_end(space: Mapping[str, Any], source: random.Random) -> Iterator[Values]:
    while True:
        yield _drawn(space, source)


def _drawn(space: Mapping[str, Any], source: random.Random) -> Values:
    values = {}
    for name, (distribution, settings) in space.items():
        try:
            values[name] = _DISTRIBUTIONS[distribution](source, *settings)
        except (TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError) as error:
            raise http.BadRequest(f"parameter {name!r} cannot be drawn by {distribution}: {error}") from error
    return values


def arguments(values: Values) -> list[str]:
    """Return the parameters as a script is given them."""
    return [word for name, value in values.items() for word in ("--" + name.removeprefix("--"), str(value))]
