"""DeepOBS's networks and problems: sizes, starts, batches, and what they compute."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import vector
from scipy import signal

from study import data, networks, optimizers, train, trajectories
from study.data import files
from study.errors import UserError
from study.networks import patches
from study.problems import (
    Image2C2D,
    Image3C3D,
    ImageLogreg,
    ImageMLP,
    ImageVAE,
    TextLSTM,
)
from study.problems import deepobs as problems
from study.problems.autoencoder import bits

SHARED = Path(__file__).parents[2] / "shared" / "data"
LAW = nnx.initializers.glorot_uniform()


def dense(into, out):
    return (into + 1) * out


def convolution(size, into, out):
    return (size**2 * into + 1) * out


@pytest.mark.parametrize(
    ("problem", "count"),
    [
        (ImageLogreg(), 7_850),
        (ImageMLP(), 1_336_610),
        (Image2C2D(), 3_274_634),
        (Image3C3D(), 895_210),
        (
            ImageVAE(),
            2 * convolution(4, 1, 64)
            + 4 * convolution(4, 64, 64)
            + 2 * dense(3136, 8)
            + dense(8, 24)
            + dense(24, 49)
            + dense(12544, 784),
        ),
        (
            TextLSTM(),
            TextLSTM().text.characters * 128
            + 2 * dense(256, 512)
            + dense(128, TextLSTM().text.characters),
        ),
    ],
    ids=str,
)
def test_the_networks_have_their_numbers_of_parameters(problem, count, key):
    shapes = jax.eval_shape(problem.init, key)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.parametrize(("padding", "stride"), [("same", 1), ("same", 2), ("valid", 1)])
def test_a_convolution_by_patches_is_that_of_xla(padding, stride, key):
    layer = patches.Convolution(
        4,
        3,
        5,
        padding=padding,
        stride=stride,
        kernel=LAW,
        dtype=jnp.float32,
        rngs=nnx.Rngs(0),
    )
    x = jax.random.normal(key, (2, 9, 8, 3))
    expected = jax.lax.conv_general_dilated(
        x,
        layer.kernel[...],
        (stride, stride),
        padding.upper(),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_transposed_convolution_is_the_transpose(stride, key):
    """Of a convolution with the kernel's in and out exchanged and turned by 180 degrees."""
    layer = patches.Convolution(
        4, 2, 3, padding="transposed", stride=stride, kernel=LAW, dtype=jnp.float32,
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    x = jax.random.normal(key, (1, 5, 5, 2))
    kernel = layer.kernel[...][::-1, ::-1].swapaxes(2, 3)
    forward = patches.Convolution(
        4,
        3,
        2,
        stride=stride,
        kernel=lambda *_: kernel,
        dtype=jnp.float32,
        rngs=nnx.Rngs(0),
    )
    large = jnp.zeros((1, 5 * stride, 5 * stride, 3))
    _, back = jax.vjp(forward, large)
    np.testing.assert_allclose(layer(x), back(x)[0], atol=1e-5)


def test_2c2d_is_its_formula_in_numpy(key):
    problem = Image2C2D()
    params = jax.tree.map(np.asarray, problem.init(key))
    image = problem.splits().test.inputs[0].astype(np.float32)
    x = image[..., None]
    for name in ("first", "second"):
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        x = np.stack(
            [
                sum(
                    signal.correlate2d(x[..., i], kernel[..., i, o], mode="same")
                    for i in range(x.shape[-1])
                )
                + bias[o]
                for o in range(kernel.shape[-1])
            ],
            -1,
        )
        x = np.maximum(x, 0).reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max((1, 3))
    x = np.maximum(x.ravel() @ params["third"]["kernel"] + params["third"]["bias"], 0)
    logits = x @ params["readout"]["kernel"] + params["readout"]["bias"]
    found = problem.network().apply(params, jnp.asarray(image[None]))[0]
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)


def test_the_laws_of_the_starts(key):
    """Truncated normal draws are cut at two deviations and not rescaled."""
    params = Image2C2D().init(key)
    kernel = np.asarray(params["third"]["kernel"])
    assert np.abs(kernel).max() <= 0.1
    cut = 0.8796  # deviation of a standard normal number within (-2, 2)
    assert kernel.std() == pytest.approx(0.05 * cut, rel=0.01)
    assert all(np.all(np.asarray(layer["bias"]) == 0.05) for layer in params.values())
    assert ImageMLP().init(key)["layers"][0]["kernel"].std() == pytest.approx(
        0.03 * cut, rel=0.01
    )
    assert not vector(ImageLogreg().init(key)).any()


def test_the_penalty_of_3c3d_is_that_of_glorots_law(key):
    """DeepOBS: 3.592 at the start, 2.33 of it cross-entropy and 1.26 the penalty."""
    shapes = [(75, 1600), (576, 864), (864, 1152), (1152, 512), (512, 256), (256, 10)]
    counts = [4800, 55_296, 110_592, 589_824, 131_072, 2560]
    expected = 0.001 * sum(
        n * 2 / sum(fans) for n, fans in zip(counts, shapes, strict=True)
    )
    problem = Image3C3D()
    keys = jax.random.split(key, 10)
    found = jax.jit(
        lambda keys: jax.lax.map(lambda k: problem.penalty(problem.init(k)), keys)
    )
    values = np.asarray(found(keys))
    assert expected == pytest.approx(1.26, abs=0.005)
    np.testing.assert_allclose(values, expected, rtol=0.01)


def test_softmax_regression_starts_at_log_ten(key):
    problem = ImageLogreg()
    found = problem.evaluate(problem.data(), problem.init(key))
    assert float(found["test_loss"]) == pytest.approx(np.log(10), rel=1e-6)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no data folder beside the project")
def test_the_vae_starts_where_deepobs_starts(monkeypatch):
    """181.45 on MNIST's 10,000 images, from another generator; here over ten seeds."""
    monkeypatch.setenv(files.VARIABLE, str(SHARED))
    problem = ImageVAE(images="mnist-10k")
    images = jnp.asarray(problem.data()["test"])[:200]
    batch = images, bits(jax.random.key(1), len(images))
    many = jax.jit(
        lambda keys: jax.lax.map(lambda k: problem.evaluated(problem.init(k), batch), keys)
    )
    values = np.asarray(many(jax.random.split(jax.random.key(0), 10))).sum(-1)
    # All pixels start near one half, whatever the seed: the images say the rest.
    errors = np.square(np.asarray(images) - 0.5).sum((1, 2)).mean()
    np.testing.assert_allclose(values, errors, rtol=0.02)
    everything = np.concatenate([part.inputs for part in data.mnist()])
    assert np.square(everything - 0.5).sum((1, 2)).mean() == pytest.approx(181.45, rel=0.01)


@pytest.mark.parametrize(
    ("problem", "published"),
    [(Image2C2D(images="fashion-mnist"), 2.3545), (Image3C3D(images="cifar-10"), 3.592)],
    ids=["2c2d", "3c3d"],
)
def test_the_classifiers_start_where_deepobss_start(problem, published):
    try:
        problem.require()
    except UserError as error:
        pytest.skip(f"no data: {error}")
    arrays = jax.tree.map(lambda leaf: jnp.asarray(leaf[:500]), problem.data())
    values = [
        float(problem.evaluate(arrays, problem.init(key))["test_loss"])
        for key in jax.random.split(jax.random.key(0), 10)
    ]
    assert min(values) - 0.1 < published < max(values) + 0.1


@pytest.mark.parametrize("order", ["fixed", "reshuffled"])
def test_an_epoch_sees_every_image_once(order, key):
    problem = ImageLogreg(order=order, batch_size=100)
    count = 300
    at = lambda t: np.asarray(problem._chosen(count, key, jnp.asarray(t)))  # noqa: E731
    epochs = [np.concatenate([at(3 * e + i) for i in range(3)]) for e in range(2)]
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch), np.arange(count))
    assert np.array_equal(epochs[0], epochs[1]) == (order == "fixed")


def test_changed_images_stay_images_of_the_same_kind(key):
    image = jax.random.uniform(key, (32, 32, 3))
    changed = np.asarray(
        jax.vmap(problems.augmented, (None, 0))(image, jax.random.split(key, 5))
    )
    assert changed.shape == (5, 32, 32, 3)
    assert len({float(x.mean()) for x in changed}) == 5
    plain = problems.standardised(np.asarray(image)[None], np)
    np.testing.assert_allclose([plain.mean(), plain.std()], [0, 1], atol=1e-5)
    even = problems.standardised(np.full((1, 32, 32, 3), 0.3, np.float32), np)
    np.testing.assert_allclose(even, 0, atol=1e-4)


def test_saturation_is_that_of_hue_saturation_and_value(key):
    from matplotlib import colors

    image = np.asarray(jax.random.uniform(key, (4, 4, 3)))
    for factor in (0.5, 1.4):
        hsv = colors.rgb_to_hsv(image)
        hsv[..., 1] = np.minimum(hsv[..., 1] * factor, 1)
        found = problems.saturated(jnp.asarray(image), jnp.asarray(factor))
        np.testing.assert_allclose(found, colors.hsv_to_rgb(hsv), atol=1e-5)


def test_dropout_keeps_means_and_differs_by_example(key):
    x = jnp.ones((2, 4000))
    keys = bits(key, 2)
    found = np.asarray(patches.dropout(x, keys, 0, 0.2))
    assert set(np.unique(found)) == {0, np.float32(1.25)}
    np.testing.assert_allclose(found.mean(1), 1, atol=0.04)
    assert not np.array_equal(found[0], found[1])
    other = patches.dropout(x, keys, 1, 0.2)
    assert not np.array_equal(found, other)
    np.testing.assert_array_equal(patches.dropout(x, None, 0, 0.2), x)


def test_the_gradient_of_all_images_in_parts_is_the_mean_of_the_parts(key):
    problem = ImageMLP(batch_size=0, part=359)
    arrays = problem.data()
    params, batch = problem.init(key), problem.sample(arrays, key)
    parts: Any = problem.parts(batch)
    assert [len(leaf) for leaf in parts] == [3, 3]
    loss, _ = problem.slope(params, batch)
    assert float(loss) == pytest.approx(float(problem.loss(params, batch)), rel=1e-5)


def test_an_lstm_sees_only_what_was_before(key):
    network = networks.functional(
        lambda rngs: networks.LSTM(
            7, width=8, depth=2, dropped=0.5, dtype=jnp.dtype("float32"), rngs=rngs
        )
    )
    params = network.init(key)
    tokens = jax.random.randint(key, (1, 8), 0, 7)
    other = tokens.at[0, 5].set((tokens[0, 5] + 1) % 7)
    apply: Any = network.apply
    one, two = (apply(params, (x, None))[0] for x in (tokens, other))
    np.testing.assert_array_equal(one[:5], two[:5])
    assert np.all(np.abs(one[5:] - two[5:]).max(-1) > 0)


def test_an_lstm_is_its_formula_in_numpy(key):
    problem = TextLSTM(width=4, context=5)
    params = jax.tree.map(np.asarray, problem.init(key))
    tokens = np.array([[3, 1, 4, 1, 5]])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    x = params["embedding"]["embedding"][tokens[0]].astype(np.float64)
    for i in range(2):
        kernel, bias = params["layers"][i]["kernel"], params["layers"][i]["bias"]
        output, memory, seen = np.zeros(4), np.zeros(4), []
        for now in x:
            let, new, keep, show = np.split(np.r_[now, output] @ kernel + bias, 4)
            memory = sigmoid(keep + 1) * memory + sigmoid(let) * np.tanh(new)
            output = sigmoid(show) * np.tanh(memory)
            seen.append(output)
        x = np.array(seen)
    expected = x @ params["readout"]["kernel"] + params["readout"]["bias"]
    apply: Any = problem.network().apply
    found = apply(params, (jnp.asarray(tokens), None))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_problems_refuse_what_they_cannot_do(monkeypatch):
    with pytest.raises(UserError, match="held_back"):
        ImageLogreg(held_back=100)
    with pytest.raises(UserError, match="images"):
        dataclasses.replace(Image3C3D(), images="mnist")  # type: ignore[arg-type]
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setenv("STUDY_CACHE", "/nowhere")
    with pytest.raises(UserError, match=r"train-images-idx3.*a folder fashion-mnist"):
        Image2C2D(images="fashion-mnist").require()


def test_a_run_by_epochs_is_the_plain_run_up_to_its_budget(key):
    problem = ImageLogreg(batch_size=359, order="fixed")
    arrays, params = jax.tree.map(jnp.asarray, problem.data()), problem.init(key)
    rule, rate = optimizers.Adam(), jnp.float32(0.01)
    seen, records = jax.jit(
        lambda budget: trajectories.by_epochs(
            problem,
            rule,
            rate,
            (3, 3, budget),
            (("angle",), 2),
            params=params,
            key=key,
            data=arrays,
        )
    )(2)
    assert records["angle"].shape == (3, 2)
    assert np.all(np.isfinite(records["angle"][:2]))
    assert np.all(np.isnan(records["angle"][2]))
    state = train.start(rule, rate, params, shadowed=False)
    losses = [problem.evaluate(arrays, params)["test_loss"]]
    advance = jax.jit(lambda s, t: train.step(problem, rule, arrays, rate, key, s, t)[0])
    for t in range(6):
        state = advance(state, jnp.int32(t))
        if t % 3 == 2:
            losses.append(problem.evaluate(arrays, state.params)["test_loss"])
    np.testing.assert_allclose(seen["test_loss"], [*map(float, losses), np.nan], rtol=1e-5)
