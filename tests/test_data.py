"""Files of the user's, texts, MNIST, and the problems on them."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import importlib
import io
import os
import pickle
import struct
import tarfile
import threading
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import vector

from study import arguments, cli, data, networks, optimizers, train
from study.data import cifar, download, files, published, text
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


# Published data sets ---------------------------------------------------------------------


def tiny_sets(monkeypatch, **counts):
    """Data sets of a few images in place of the published ones."""
    small = published.Images("idx", (4, 4), (3, 2), (1, 2))
    sets = {"mnist": small, "fashion-mnist": small._replace(train=(2, 3))}
    monkeypatch.setattr(published, "IMAGES", sets | counts)


def write_set(folder, train=(0, 0, 0, 1, 1), test=(0, 1, 1), zipped=False):
    """IDX files of 4 x 4 images; pixel 0 of each is its place times 51."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, labels in (("train", train), ("t10k", test)):
        images = np.zeros((len(labels), 4, 4))
        images[:, 0, 0] = 51 * np.arange(len(labels))
        for name, array in (("images-idx3", images), ("labels-idx1", np.array(labels))):
            content = packed(array)
            path = folder / f"{part}-{name}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_published_set_keeps_its_parts(folder, monkeypatch, zipped):
    tiny_sets(monkeypatch)
    write_set(folder / "raw", zipped=zipped)
    train, validation, test = data.images("mnist")
    np.testing.assert_allclose(train.inputs[:, 0, 0], np.arange(5) / 5, rtol=1e-6)
    assert list(train.labels) == [0, 0, 0, 1, 1]
    assert validation is test  # as benchmarks have it that select on the test
    assert list(test.labels) == [0, 1, 1]
    train, validation, _ = data.images("mnist", 2)
    seen = np.concatenate([train.inputs[:, 0, 0], validation.inputs[:, 0, 0]])
    assert len(validation.labels) == 2
    np.testing.assert_allclose(np.sort(seen), np.arange(5) / 5, rtol=1e-6)


def test_files_of_the_same_names_are_told_apart_by_their_folder(folder, monkeypatch):
    tiny_sets(monkeypatch)
    write_set(folder / "MNIST" / "raw")
    write_set(folder / "FashionMNIST" / "raw", train=(0, 0, 1, 1, 1))
    assert list(data.images("mnist").train.labels) == [0, 0, 0, 1, 1]
    assert list(data.images("fashion-mnist").train.labels) == [0, 0, 1, 1, 1]


def test_another_set_under_the_name_is_refused(folder, monkeypatch):
    tiny_sets(monkeypatch)
    write_set(folder, train=(0, 0, 1, 1, 1))
    with pytest.raises(UserError, match=r"train-images.*the labels are not those of mnist"):
        data.images("mnist")
    names = [folder / f"train-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
    contents = [name.read_bytes() for name in names]
    for name, content in zip(names, reversed(contents), strict=True):
        name.write_bytes(content)
    with pytest.raises(UserError, match="train-images-idx3-ubyte is no IDX file"):
        data.images("mnist")


def test_the_counts_by_class_are_those_of_the_real_test_images(monkeypatch):
    for about in published.IMAGES.values():
        assert sum(about.train) in (50_000, 60_000)
        assert sum(about.test) == 10_000
    if not SHARED.is_dir():
        pytest.skip("no data folder beside the project")
    monkeypatch.setenv(files.VARIABLE, str(SHARED))
    labels = np.concatenate([part.labels for part in data.mnist()])
    assert tuple(np.bincount(labels)) == published.IMAGES["mnist"].test


def test_the_table_cites_a_list_for_every_digest():
    for file in published.FILES:
        kind, _, digest = file.digest.partition(":")
        assert (kind, len(digest)) in (("sha256", 64), ("md5", 32), ("", 0))
        assert bool(file.digest) == bool(file.source)
    names = {(file.group, file.name) for file in published.FILES}
    assert len(names) == len(published.FILES)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        del format, args


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serves a folder of this machine; entries of the table are made for its files."""
    place, cache = tmp_path / "served", tmp_path / "deep" / "cache"
    place.mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(place))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv(download.CACHE, str(cache))
    monkeypatch.delenv(download.OFFLINE)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(files.VARIABLE, raising=False)
    address = f"http://127.0.0.1:{server.server_port}/"

    def offer(name, content, digest=None):
        (place / name).write_bytes(content)
        known = (
            f"sha256:{hashlib.sha256(content).hexdigest()}" if digest is None else digest
        )
        entry = published.File("text", name, address + name, known, "a list" * bool(known))
        monkeypatch.setattr(download, "FILES", (*download.FILES, entry))
        return cache / "text" / name

    yield offer
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_published_file_is_downloaded_once(served, monkeypatch, capsys):
    path = served("book.txt", b"to be or not to be " * 1000)
    assert files.find("book.txt") == path
    assert len(data.corpus("book.txt").tokens) == 19_000
    assert capsys.readouterr().err.count("downloading") == 1
    monkeypatch.setenv(download.OFFLINE, "1")
    assert files.find(data.pin(path)) == path
    assert [p.name for p in path.parent.iterdir()] == ["book.txt"]
    with pytest.raises(UserError, match="its content differs"):
        files.find("book.txt@000000000000")


def test_a_damaged_copy_in_the_cache_is_replaced(served):
    path = served("book.txt", b"to be")
    files.find("book.txt")
    path.write_bytes(b"not to be")
    assert files.find("book.txt").read_bytes() == b"to be"


def test_the_data_folder_comes_first(served, tmp_path, monkeypatch):
    served("book.txt", b"to be")
    own = tmp_path / "own"
    own.mkdir()
    (own / "book.txt").write_bytes(b"mine")
    monkeypatch.setenv(files.VARIABLE, str(own))
    assert files.find("book.txt") == own / "book.txt"


@pytest.mark.parametrize(
    ("digest", "complaint"), [("sha256:" + "0" * 64, "another file than that of a list")]
)
def test_another_file_than_the_published_one_leaves_nothing(
    served, tmp_path, digest, complaint
):
    served("book.txt", b"to be", digest)
    with pytest.raises(UserError, match=f"book.txt cannot be.*{complaint}.*--data"):
        files.find("book.txt")
    assert not (tmp_path / "deep").exists()


def test_without_a_connection_all_missing_files_are_named_once(tmp_path, monkeypatch):
    tiny_sets(monkeypatch)
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setenv(download.CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(download.OFFLINE)
    nowhere = "http://127.0.0.1:9/"  # nobody listens there
    table = tuple(file._replace(address=nowhere) for file in download.FILES)
    monkeypatch.setattr(download, "FILES", table)
    with pytest.raises(UserError) as refusal:
        data.require_images("fashion-mnist")
    for name in published.IDX:
        assert str(refusal.value).count(name) == 1
    assert "no answer from" in str(refusal.value)
    assert "a folder fashion-mnist and name that with --data" in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_a_file_without_a_published_digest_is_pinned(served, capsys):
    path = served("book.txt", b"to be", "")
    files.find("book.txt")
    assert "unverified" in capsys.readouterr().err
    pin = path.with_name("book.txt.pinned")
    assert pin.read_text() == f"sha256:{hashlib.sha256(b'to be').hexdigest()}"
    path.write_bytes(b"not to be")
    with pytest.raises(UserError, match=r"first downloaded.*book.txt.pinned"):
        files.find("book.txt")


# CIFAR-10 --------------------------------------------------------------------------------


@pytest.fixture
def small_cifar(monkeypatch):
    """CIFAR-10 with two images of 2 x 2 in a batch."""
    monkeypatch.setattr(cifar, "EACH", 2)
    monkeypatch.setattr(cifar, "SHAPE", (3, 2, 2))
    about = published.Images("cifar", (2, 2, 3), (5, 5), (1, 1))
    monkeypatch.setattr(published, "IMAGES", {"cifar-10": about})


def batches(version):
    """Six batches, by member: labels 0 and 1, pixels that count."""
    found = {}
    for i, name in enumerate(cifar.BATCHES):
        pixels = np.arange(24, dtype=np.uint8).reshape(2, 12) + i
        if version == "bin":
            rows = np.concatenate([np.array([[0], [1]], np.uint8), pixels], 1)
            found[f"cifar-10-batches-bin/{name}.bin"] = rows.tobytes()
        else:
            batch = {b"data": pixels, b"labels": [0, 1], b"filenames": [b"a", b"b"]}
            found[f"cifar-10-batches-py/{name}"] = pickle.dumps(batch, protocol=2)
    return found


def write_archive(path, contents, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("version", ["bin", "py"])
@pytest.mark.parametrize("archived", [True, False])
def test_cifar_is_read_in_either_version(folder, small_cifar, version, archived):
    contents = batches(version)
    if archived:
        name = {"bin": "cifar-10-binary.tar.gz", "py": "cifar-10-python.tar.gz"}[version]
        extra = [("../outside", b"x"), ("cifar-10-batches-py/readme.html", b"x")]
        write_archive(folder / name, [*extra, *contents.items()])
    else:
        for name, content in contents.items():
            (folder / Path(name).name).write_bytes(content)
    train, _, test = data.images("cifar-10")
    assert train.inputs.shape == (10, 2, 2, 3)
    assert list(test.labels) == [0, 1]
    # The first image's first pixel: red 0, green 4, blue 8.
    np.testing.assert_allclose(train.inputs[0, 0, 0] * 255, [0, 4, 8], rtol=1e-5)
    np.testing.assert_allclose(test.inputs[1, 1, 1] * 255, [20, 24, 28], rtol=1e-5)
    assert not (folder.parent / "outside").exists()


def test_damaged_and_hostile_archives_are_refused(folder, small_cifar):
    contents, path = list(batches("bin").items()), folder / "cifar-10-binary.tar.gz"
    cases = {
        "lacks test_batch": contents[:-1],
        "doubled": [*contents, contents[0]],
        "has 25 bytes, not 26": [(contents[0][0], contents[0][1][:-1]), *contents[1:]],
        "has labels beyond 9": [(contents[0][0], b"\xff" * 26), *contents[1:]],
    }
    for complaint, members in cases.items():
        write_archive(path, members)
        with pytest.raises(UserError, match=complaint):
            data.images("cifar-10")
    write_archive(path, contents, tarfile.SYMTYPE)
    with pytest.raises(UserError, match="no plain file"):
        data.images("cifar-10")
    write_archive(path, contents)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        data.images("cifar-10")


class Hostile:
    def __reduce__(self):
        return os.system, ("echo harm > harmed",)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (pickle.dumps(Hostile()), r"asks for (posix|nt)\.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", r"asks for builtins\.eval"),
        (b"\x80\x04\x82\x01.", "is no batch"),
        (pickle.dumps({b"data": [1], b"labels": [0, 1]}), "no images"),
        (pickle.dumps({b"data": np.zeros((2, 12)), b"labels": [0, 1]}, 2), "not bytes"),
        (
            pickle.dumps({b"data": np.zeros((2, 12), "u1"), b"labels": [0, 10]}, 2),
            "beyond 9",
        ),
        (pickle.dumps({b"data": np.zeros((2, 12), "u1"), b"labels": "01"}, 2), "no labels"),
        (pickle.dumps({b"data": np.zeros((2, 9), "u1"), b"labels": [0, 1]}, 2), "no batch"),
        (b"", "is no batch"),
    ],
)
def test_hostile_pickles_are_refused_by_name(
    small_cifar, content, complaint, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=complaint):
        cifar.pickled(content, "data_batch_1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["idx", "zipped idx", "bin", "py", "tar"])
@hypothesis.settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4),
    kept=st.floats(0, 1) | st.just(1.0),
)
def test_damaged_files_are_refused_or_still_arrays(
    small_cifar, tmp_path, form, flips, kept
):
    path, array = tmp_path / "file", np.arange(24).reshape(2, 3, 4)
    whole = {
        "idx": lambda: packed(array),
        "zipped idx": lambda: gzip.compress(packed(array), mtime=0),
        "bin": lambda: next(iter(batches("bin").values())),
        "py": lambda: next(iter(batches("py").values())),
    }
    if form == "tar":
        write_archive(path, batches("bin").items())
        content = bytearray(gzip.decompress(path.read_bytes()))
    else:
        content = bytearray(whole[form]())
    for place, flip in flips:
        content[int(place * (len(content) - 1))] ^= flip
    content = bytes(content[: int(kept * len(content))])
    path.write_bytes(content)
    try:
        if form == "bin":
            found = cifar.binary(content, form)
        elif form == "py":
            found = cifar.pickled(content, form)
        elif form == "tar":
            found = cifar.read((path,))[0]
        else:
            found = files.idx(path, 3), np.zeros(2, np.uint8)
    except UserError:
        return
    assert all(part.dtype == np.uint8 for part in found)
    assert len(found[0]) == len(found[1]) or "idx" in form


def test_what_unpacks_beyond_bounds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", 1000)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(10**6)))
    with pytest.raises(UserError, match="more than 1000 bytes"):
        files.idx(path, 3)


def test_a_batch_as_python_2_pickled_it_is_read(small_cifar):
    """With byte strings, as in the published archive, and NumPy's old module names."""
    raw = bytes(range(24))
    head = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03"
        b"cnumpy\nndarray\nq\x04K\x00\x85q\x05U\x01bq\x06\x87q\x07Rq\x08(K\x01K\x02K\x0c"
        b"\x86q\tcnumpy\ndtype\nq\nU\x02u1q\x0bK\x00K\x01\x87q\x0cRq\r(K\x03U\x01|q\x0e"
        b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0fb\x89T\x18\x00\x00\x00"
    )
    tail = b"q\x10tq\x11bU\x06labelsq\x12]q\x13(K\x00K\x01eu."
    images, labels = cifar.pickled(head + raw + tail, "data_batch_1")
    np.testing.assert_array_equal(images[0, 0, 0], [0, 4, 8])
    assert list(labels) == [0, 1]
