"""Loops that were not written for this project gain the metrics by one changed line.

They are the examples in the docstrings of Optax's own optimizers.
"""

import contextlib
import doctest
import io
import re

import jax
import numpy as np
import optax
import pytest

from study import track

LINE = re.compile(r"^solver = (.*)$", re.DOTALL)


def loop_of(name):
    """The source of the example in a docstring, a statement each."""
    examples = doctest.DocTestParser().get_examples(getattr(optax, name).__doc__)
    return [example.source.strip() for example in examples]


def loops():
    names = [n for n in dir(optax) if ">>> solver = " in (getattr(optax, n).__doc__ or "")]
    return [n for n in names if "opt_state" in getattr(optax, n).__doc__]


def run(statements):
    """What they leave, and what they print."""
    space, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for statement in statements:
            exec(statement, space)  # Optax's own documentation
    return space, printed.getvalue()


def test_optax_still_shows_such_loops():
    assert {"sgd", "adam", "lion", "lbfgs", "scale_by_zoom_linesearch"} <= set(loops())


@pytest.mark.parametrize("name", loops())
def test_a_strangers_loop_changes_one_line(name):
    statements = loop_of(name)
    changed = [LINE.sub(r"solver = track.track(\1)", statement) for statement in statements]
    assert changed != statements
    alone, printed = run(statements)
    tracked, same = run(["from study import track", *changed])
    assert printed == same
    assert "Objective" in printed
    params = jax.tree.leaves(alone["params"])
    for one, other in zip(params, jax.tree.leaves(tracked["params"]), strict=True):
        np.testing.assert_array_equal(one, other)
    shown = track.read(tracked["opt_state"])
    assert shown["step"] > 0
    arrived = shown["gradient_norm"] == 0
    assert arrived or 0 <= shown["angle"] <= np.pi
