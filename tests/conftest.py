"""Settings for all tests: one device a core as in real runs, ranks that must match."""

import jax
import pytest

from study import devices

devices.prepare()
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    return jax.random.key(0)
