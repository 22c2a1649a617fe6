"""What is compiled once is kept, where and how much of it."""

import os
import subprocess
import sys

import jax
import pytest

from study import compilation

MISS = "PERSISTENT COMPILATION CACHE MISS for 'jit__lambda"
RUN = """
import sys, jax, jax.numpy as jnp
from study import compilation
jax.config.update("jax_num_cpu_devices", 1)
print(compilation.keep())
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8))).block_until_ready()
"""


def run(tmp_path, **changed):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.getcwd(), **changed}
    command = [sys.executable, "-c", RUN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def kept(folder):
    return sorted(path.name for path in folder.rglob("*-cache"))


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is read on Linux")
def test_the_second_process_finds_the_programs_of_the_first(tmp_path):
    # Asked to explain its misses, jax is silent about a program that it finds.
    folder, told = run(tmp_path, JAX_EXPLAIN_CACHE_MISSES="true")
    assert MISS in told
    assert folder.startswith(str(tmp_path))
    first = kept(tmp_path)
    assert any(name.startswith("jit__lambda") for name in first)
    _, told = run(tmp_path, JAX_EXPLAIN_CACHE_MISSES="true")
    assert kept(tmp_path) == first
    assert MISS not in told


def test_a_folder_of_the_user_is_taken_and_none_where_none_is_wanted(tmp_path):
    folder = str(tmp_path / "mine")
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=folder)[0] == folder
    assert kept(tmp_path / "mine")
    assert run(tmp_path / "off", JAX_ENABLE_COMPILATION_CACHE="false")[0] == "None"
    assert not kept(tmp_path / "off")


def test_a_home_that_cannot_be_written_costs_time_only(tmp_path):
    occupied = tmp_path / "file"
    occupied.touch()
    assert run(occupied)[0] == "None"


def test_the_oldest_files_go_first(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).write_bytes(b"x" * 10)
        os.utime(tmp_path / name, (0, 1000 - age))
    compilation.prune(tmp_path, 25)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["middle", "new"]


def test_another_jaxlib_has_another_folder(monkeypatch):
    here = compilation.location()
    monkeypatch.setattr("jaxlib.version.__version__", "0.0.0")
    assert compilation.location() != here


def test_tests_keep_nothing():
    assert compilation.keep() is None
    assert getattr(jax.config, compilation.FOLDER) is None
