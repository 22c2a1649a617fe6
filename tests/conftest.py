"""Settings for all tests: one device a core as in real runs, ranks that must match."""

import os

# Compilation is the budget of these tests; half of it is LLVM's higher levels.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=1 " + os.environ.get(
    "XLA_FLAGS", ""
)

os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # tests compile what they test
os.environ["STUDY_OFFLINE"] = "1"  # tests download nothing, except from this machine

import jax
import pytest

from study import devices

devices.prepare()
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    return jax.random.key(0)
