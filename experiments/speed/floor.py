"""The machine's own limit: the rate at which it multiplies a problem's matrices."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from study import devices, programs
from study.optimizers import Adam
from study.problems import Problem

LARGE = 2048
REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Floor:
    """Of one problem, in floating-point operations of one run's step, or of a second."""

    flops: float
    """In products of matrices, counted from their shapes."""
    flops_by_xla: float
    """In everything, by XLA's cost analysis of one step of SGD."""
    batched_rate: float
    """At which all devices together make these products, one after another."""

    @property
    def rate(self) -> float:
        """Run-steps a second if products were all."""
        return self.batched_rate / self.flops


@dataclasses.dataclass(frozen=True)
class Product:
    """A `dot_general`: its two shapes, its parameters, how often it occurs."""

    shapes: tuple[Any, Any]
    params: dict[str, Any]
    count: int

    @property
    def flops(self) -> float:
        """Two for each multiplication: of the result's elements times contracted ones."""
        (contracted, _), (shared, _) = self.params["dimension_numbers"]
        one, other = (shape.shape for shape in self.shapes)
        both = math.prod(one[i] for i in (*contracted, *shared))
        rest = math.prod(one) // both
        return 2.0 * rest * math.prod(other)


def floor(problem: Problem, runs: int) -> Floor:
    """Counts and times the products of one step as a device's group of runs makes them."""
    with devices.precision(problem.dtype):
        width = programs.width(problem, Adam(), runs)
        group = programs.group(problem, Adam(), width)
        products = _products(problem, group)
        flops = sum(p.flops * p.count for p in products) / group
        seconds = sum(_seconds(p) * p.count for p in products)
        rate = flops * group * jax.local_device_count() / seconds
        return Floor(flops, _by_xla(problem), rate)


def large_rate() -> float:
    """Of large float32 matrices, on all devices together."""
    square = jax.ShapeDtypeStruct((LARGE, LARGE), jnp.float32)
    with devices.precision("float32"):
        jaxpr = jax.make_jaxpr(jnp.matmul)(square, square)
        product = _found(jaxpr.jaxpr)[0]
        return product.flops * jax.local_device_count() / _seconds(product)


def _slope(problem: Problem) -> Any:
    def slope(data: Any, params: Any, key: Any) -> Any:
        batch = problem.batch(data, key, jnp.zeros((), jnp.int32))
        return problem.slope(params, batch)[1]

    return slope


def _shapes(problem: Problem, *axes: int) -> Any:
    many = lambda x: jax.ShapeDtypeStruct((*axes, *x.shape), x.dtype)  # noqa: E731
    data = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, problem.data()))
    return data, *jax.tree.map(many, programs.start_shapes(problem))


def _products(problem: Problem, group: int) -> list[Product]:
    slopes = jax.vmap(_slope(problem), (None, 0, 0))
    return _found(jax.make_jaxpr(slopes)(*_shapes(problem, group)).jaxpr)


def _found(jaxpr: Any, count: int = 1) -> list[Product]:
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            one, other = (v.aval for v in eqn.invars)
            found.append(Product((one, other), eqn.params, count))
        inside = count * (eqn.params["length"] if eqn.primitive.name == "scan" else 1)
        for inner in jaxprs_in_params(eqn.params):
            found += _found(inner, inside)
    return found


def _seconds(product: Product) -> float:
    """Of one product on each device, all devices at once; the median of some timings."""
    by_device, _ = devices.shardings()
    count = jax.local_device_count()
    repeats = max(3, round(2e9 / product.flops))
    random = np.random.default_rng(0)

    def draw(shape: Any) -> Any:
        drawn = random.normal(size=(count, *shape.shape)).astype(np.float32)
        return jax.device_put(drawn.astype(shape.dtype), by_device)

    def many(one: Any, other: Any) -> Any:
        one, other = one[0], other[0]

        def again(i: Any, carry: Any) -> Any:
            one, _ = carry  # changed each time, so that nothing is taken out of the loop
            one = one.at[(0,) * one.ndim].set(i.astype(one.dtype))
            return one, jax.lax.dot_general_p.bind(one, other, **product.params)

        first = jax.lax.dot_general_p.bind(one, other, **product.params)
        return jax.lax.fori_loop(0, repeats, again, (one, first))[1][None]

    mapped = jax.shard_map(
        many,
        mesh=by_device.mesh,
        in_specs=(by_device.spec,) * 2,
        out_specs=by_device.spec,
        check_vma=False,
    )
    given = [draw(shape) for shape in product.shapes]
    program = jax.jit(mapped).lower(*given).compile()
    times = []
    for _ in range(REPEATS + 1):  # the first warms up
        begun = time.perf_counter()
        jax.block_until_ready(program(*given))
        times.append(time.perf_counter() - begun)
    return float(np.median(times[1:])) / (repeats + 1)


def _by_xla(problem: Problem) -> float:
    compiled = jax.jit(_slope(problem)).lower(*_shapes(problem)).compile()
    return float((compiled.cost_analysis() or {}).get("flops", math.nan))
