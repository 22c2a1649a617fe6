"""Files of the user's, texts, MNIST, and the problems on them."""

import dataclasses
import gzip
import importlib
import os
import struct
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import vector

from study import arguments, cli, data, networks, optimizers, train
from study.data import files, text
from study.errors import UserError
from study.problems import Digits, LeNet, Text

SHARED = Path(__file__).parents[2] / "shared" / "data"
SMALL = Text(depth=1, width=8, heads=2, context=8, batch_size=4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(files.VARIABLE, str(tmp_path))
    return tmp_path


def test_the_synthetic_language_has_zipfs_law_and_a_memory():
    numbers, count = data.words("synthetic")
    counts = np.sort(np.bincount(numbers))[::-1]
    assert 1700 < count <= text.WORDS
    ranks = np.arange(10, 500)
    slope = np.polyfit(np.log(ranks), np.log(counts[ranks]), 1)[0]
    assert -1.4 < slope < -0.8
    pairs = np.unique(numbers[:-1] * count + numbers[1:]).size
    shuffled = np.random.default_rng(0).permutation(numbers)
    assert pairs < 0.8 * np.unique(shuffled[:-1] * count + shuffled[1:]).size


def test_a_corpus_is_its_text(folder):
    words = "the cat sat on the mat; the End. " * 400
    (folder / "cats.txt").write_text(words)
    found = data.corpus("cats.txt")
    assert "".join(found.alphabet[i] for i in found.tokens) == words
    counts = np.bincount(found.tokens)
    assert np.all(np.diff(counts) <= 0)
    numbers, count = data.words("cats.txt")
    assert count == 6  # the, cat, sat, on, mat, end
    assert np.bincount(numbers)[0] == 3 * 400


def test_a_file_is_named_by_its_content(folder):
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    for place, letter in (("a", "x"), ("b", "y")):
        (folder / place / "same.txt").write_text(letter * 20_000)
    for place in ("a", "b"):
        name = data.pin(folder / place / "same.txt")
        assert files.find(name) == folder / place / "same.txt"
    with pytest.raises(UserError, match="its content differs"):
        files.find("same.txt@000000000000")


@pytest.mark.parametrize("name", ["book[1].txt", "me@home.txt", "a@b@c.txt"])
def test_any_file_name_is_found_again(folder, name):
    (folder / name).write_text("x" * 20_000)
    assert files.find(name) == files.find(data.pin(folder / name)) == folder / name


@pytest.mark.parametrize("name", ["../secret.txt", "a/b.txt", "none.txt", "*.txt", ""])
def test_files_outside_the_folder_are_not_found(folder, name):
    (folder.parent / "secret.txt").write_text("x" * 20_000)
    with pytest.raises(UserError):
        data.corpus(name)


def test_without_a_folder_the_file_and_the_remedy_are_named(monkeypatch):
    monkeypatch.delenv(files.VARIABLE, raising=False)
    with pytest.raises(UserError, match=r"book.txt.*--data or STUDY_DATA"):
        Text(corpus="book.txt").require()
    with pytest.raises(UserError, match="t10k-images"):
        LeNet(images="mnist").require()


def test_texts_that_are_none_are_refused(folder):
    (folder / "short.txt").write_text("abc")
    (folder / "bytes.txt").write_bytes(b"\xff\xfe" * 10_000)
    for name, complaint in (("short.txt", "10000 are needed"), ("bytes.txt", "UTF-8")):
        with pytest.raises(UserError, match=complaint):
            Text(corpus=name).require()


def packed(array, kind=8):
    head = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def test_idx_files_are_read_or_refused(tmp_path):
    array = np.arange(24).reshape(2, 3, 4)
    path = tmp_path / "x"
    for content in (packed(array), gzip.compress(packed(array))):
        path.write_bytes(content)
        np.testing.assert_array_equal(files.idx(path, 3), array)
    for content, complaint in (
        (packed(array)[:-1], "damaged"),
        (packed(array) + b"0", "damaged"),
        (packed(array, kind=9), "no IDX file"),
        (packed(array.ravel()), "no IDX file"),
        (b"", "no IDX file"),
        (gzip.compress(packed(array))[:-9], "cannot be read"),
        (b"\x80\x04cos\nsystem\n", "no IDX file"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 2**31), "damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=complaint):
            files.idx(path, 3)


def test_swapped_files_are_not_mnist(folder):
    for name, size in zip(("images-idx3", "labels-idx1"), ((5, 28, 28), (5,)), strict=True):
        (folder / f"t10k-{name}-ubyte").write_bytes(packed(np.zeros(size)))
    with pytest.raises(UserError, match="are not MNIST"):
        data.mnist()


@pytest.mark.skipif(not SHARED.is_dir(), reason="no data folder beside the project")
def test_real_files_are_read(monkeypatch):
    monkeypatch.setenv(files.VARIABLE, str(SHARED))
    splits = data.mnist()
    assert [part.inputs.shape for part in splits] == [
        (n, 28, 28) for n in (8000, 1000, 1000)
    ]
    assert all(set(part.labels) == set(range(10)) for part in splits)
    found = data.corpus("tinyshakespeare.txt")
    assert len(found.tokens) == 1_115_394
    assert len(found.alphabet) == 65
    assert found.alphabet[0] == " "


def test_a_text_file_given_becomes_part_of_the_spec(tmp_path, monkeypatch):
    monkeypatch.setenv(files.VARIABLE, "")  # parsing sets it, and leaving takes it back
    book = tmp_path / "book.txt"
    book.write_text("to be or not to be " * 1000)
    module = importlib.import_module("experiments.alignment")
    text = ["--problem", "Text(width=8)", "--data", str(book)]
    _, spec, named = arguments.parse(module, text)
    assert named
    assert spec.problem == Text(width=8, corpus=data.pin(book))
    assert str(tmp_path) not in str(spec)
    assert os.environ[files.VARIABLE] == str(tmp_path)
    spec.problem.require()
    with pytest.raises(UserError, match="no problem of this experiment reads a text"):
        arguments.parse(module, ["--data", str(book)])
    with pytest.raises(UserError, match="no such folder"):
        arguments.parse(module, ["--data", str(tmp_path / "none")])
    with pytest.raises(UserError, match="another text"):
        arguments.parse(module, ["--problem", "Text(corpus='other.txt')", *text[2:]])


def test_a_text_named_in_a_folder_is_part_of_the_spec_by_its_content(folder):
    module = importlib.import_module("experiments.alignment")
    named = ["--problem", "Text(width=8, corpus='book.txt')", "--data", str(folder)]
    specs = []
    for words in ("to be or not to be ", "to have or not to have "):
        (folder / "book.txt").write_text(words * 1000)
        specs.append(arguments.parse(module, named)[1])
        assert "h" in data.corpus("book.txt").alphabet or "h" not in words
    assert specs[0] != specs[1]
    with pytest.raises(UserError, match="its content differs"):
        specs[0].problem.require()


def test_a_missing_file_stops_the_command_before_anything_is_written(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(files.VARIABLE, raising=False)
    with pytest.raises(SystemExit) as stop:
        cli.main("experiments.alignment", ["--problem", "LeNet(images='mnist')"])
    assert stop.value.code == 2
    assert "t10k" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_character_sees_only_those_before_it(key):
    network = networks.functional(
        lambda rngs: networks.Transformer(
            7, context=8, width=8, depth=2, heads=2, dtype=jnp.dtype("float32"), rngs=rngs
        )
    )
    params = jax.tree.map(lambda x: 10 * x, network.init(key))  # attention that looks
    tokens = jax.random.randint(key, (1, 8), 0, 7)
    other = tokens.at[0, 5].set((tokens[0, 5] + 1) % 7)
    one, two = (network.apply(params, x)[0] for x in (tokens, other))
    np.testing.assert_array_equal(one[:5], two[:5])
    assert np.all(np.abs(one[5:] - two[5:]).max(-1) > 1e-6)


@pytest.mark.parametrize(("part", "parts"), [(2, 3), (4, 2), (9, 1)])
def test_the_gradient_in_parts_is_that_of_the_whole(part, parts, key):
    problem = dataclasses.replace(SMALL, windows=6, batch_size=0, part=part)
    params, batch = problem.init(key), problem.sample(problem.data(), key)
    loss, grad = problem.slope(params, batch)
    whole, expected = jax.value_and_grad(problem.loss)(params, batch)
    assert float(loss) == pytest.approx(float(whole), rel=1e-6)
    np.testing.assert_allclose(vector(grad), vector(expected), rtol=1e-4, atol=1e-7)
    cut: Any = problem.parts(batch)
    assert len(cut) == parts


def test_the_lenet_of_all_images_has_the_mean_gradient(key):
    problem = LeNet(batch_size=0)
    images, labels = problem.splits().train
    assert images.shape == (1077, 28, 28)
    assert images[:, 2:-2, 2:-2].reshape(-1, 8, 3, 8, 3).std((2, 4)).max() == 0
    digits = Digits().splits().train
    np.testing.assert_array_equal(labels, digits.labels)
    parts: Any = problem.parts((jnp.asarray(images), jnp.asarray(labels)))
    assert parts[0].shape == (3, 359, 28, 28)
    assert sum(x.size for x in jax.tree.leaves(problem.init(key))) == 61_706


def test_characters_are_grouped_by_frequency():
    arrays = SMALL.data()
    train, group = arrays["train"], arrays["group"]
    counts = np.bincount(train, minlength=len(group))
    assert np.all(np.diff(group[np.argsort(-counts)]) >= 0)
    shares = np.bincount(group, weights=counts) / counts.sum()
    assert len(shares) == 4
    assert np.all(np.abs(shares - 0.25) < 0.13)


def test_training_batches_are_windows_of_the_training_text(key):
    arrays = SMALL.data()
    windows = np.asarray(SMALL.sample(jax.tree.map(jnp.asarray, arrays), key))
    text = arrays["train"].tobytes()
    assert windows.shape == (4, 9)
    assert all(row.tobytes() in text for row in windows)
    assert not {row.tobytes() for row in arrays["test"]} & {
        row.tobytes() for row in arrays["validation"]
    }


def test_the_transformer_learns(key):
    """Twenty steps of Adam take it below the loss of its alphabet's frequencies."""
    arrays = jax.tree.map(jnp.asarray, SMALL.data())
    state = train.start(optimizers.Adam(), 0.03, SMALL.init(key))
    zero = jnp.zeros((), jnp.int32)
    state, _ = jax.jit(
        lambda s: train.segment(
            SMALL, optimizers.Adam(), (), 60, 60, arrays, 0.03, key, s, zero
        )
    )(state)
    counts = np.bincount(arrays["train"]) / len(arrays["train"])
    entropy = -np.sum(counts * np.log(counts))
    assert SMALL.evaluate(arrays, state.params)["test_loss"] < entropy
