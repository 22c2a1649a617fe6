"""Weight decay: exact minima, the decays around a rule, and loops in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from experiments import decoupled_decay
from study import devices, solutions, trajectories
from study.optimizers import SGD, Adam, AdamW, Lion, Muon
from study.problems import MatrixQuadratic, TiltedBowl
from study.problems.constrained import BALLS

BOWL, MATRIX = (
    TiltedBowl(dtype="float64"),
    MatrixQuadratic(rows=5, columns=3, dtype="float64"),
)
LENGTHS = {
    "l1 ball": lambda x: np.abs(x).sum(),
    "l2 ball": np.linalg.norm,
    "box": lambda x: np.abs(x).max(),
    "spectral ball": lambda x: np.linalg.norm(x.reshape(len(x), -1), 2),
}


def rule(optimizer, coupled=0.0, decoupled=0.0, exact=False):
    return decoupled_decay.decayed(optimizer, exact, coupled, decoupled)


def end(problem, optimizer, steps=50, rate=0.01):
    """X after steps whose rate falls linearly to 0."""
    with devices.precision("float64"):
        state, _ = trajectories.follow(
            problem,
            optimizer,
            lambda t: rate * (1 - jnp.asarray(t, float) / steps),
            (steps,),
            lambda state, t: t,
            params=problem.init(jax.random.key(0)),
        )
        return np.asarray(state.params["x"])


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("seed", range(5))
def test_a_projection_is_nearest_and_inside(ball, seed):
    random = np.random.default_rng(seed)
    x, radius = 2 * random.normal(size=(4, 3)), random.uniform(0.5, 3)
    inside = BALLS[ball](x, radius)
    assert LENGTHS[ball](inside) <= radius * (1 + 1e-12)
    for _ in range(20):  # no point of the ball lies beyond the plane through it
        other = random.normal(size=(4, 3))
        other *= radius / LENGTHS[ball](other)
        assert np.sum((x - inside) * (other - inside)) <= 1e-9


@pytest.mark.parametrize("ball", BALLS)
def test_a_point_inside_is_its_own_projection(ball):
    x = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(BALLS[ball](x, 1.01 * LENGTHS[ball](x)), x, atol=1e-14)


@pytest.mark.parametrize("radius", [0.5, 1.0, 4.0])
def test_the_box_minimum_is_that_of_bounded_least_squares(radius):
    found = BOWL.within("box", radius)
    wanted = solutions.box_minimum(BOWL.curvature(), BOWL.target(), radius)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    matrix = MATRIX.within("box", radius)
    columns = [
        solutions.box_minimum(MATRIX.curvature(), c, radius) for c in MATRIX.target().T
    ]
    np.testing.assert_allclose(matrix, np.transpose(columns), atol=1e-12)


@pytest.mark.parametrize(("ball", "order"), [("l1 ball", 1), ("l2 ball", 2)])
def test_the_ball_minima_are_those_of_a_general_solver(ball, order):
    hessian, target = BOWL.curvature(), BOWL.target()
    found = optimize.minimize(
        lambda x: (x - target) @ hessian @ (x - target) / 2,
        [0.2, -0.1],
        constraints={"type": "ineq", "fun": lambda x: 1 - np.linalg.norm(x, order)},
        tol=1e-12,
    )
    np.testing.assert_allclose(BOWL.within(ball, 1.0), found.x, atol=1e-4)


def test_the_spectral_minimum_satisfies_its_conditions():
    """-grad = U D V' with D >= 0, and D = 0 where a singular value is below the radius."""
    w = MATRIX.within("spectral ball", 1.0)
    u, s, v = np.linalg.svd(w, full_matrices=False)
    pull = -MATRIX.curvature() @ (w - MATRIX.target())
    inner = u.T @ pull @ v.T
    free = s < 1 - 1e-9
    np.testing.assert_allclose(pull, u @ inner @ v, atol=1e-9)
    np.testing.assert_allclose(inner[free], 0, atol=1e-9)
    np.testing.assert_allclose(inner, inner.T, atol=1e-9)
    assert np.linalg.eigvalsh(inner).min() > -1e-9


def test_the_bowls_solutions_are_those_of_the_calibration():
    found = dict(
        zip(decoupled_decay.SOLUTIONS, decoupled_decay.destinations(BOWL, 1.0), strict=True)
    )
    np.testing.assert_allclose(found["box"], [1, -0.4], atol=1e-12)
    np.testing.assert_allclose(found["ridge"], [1.58209, -0.43284], atol=1e-5)
    np.testing.assert_allclose(found["spectral ball"], found["l2 ball"], atol=1e-12)


@pytest.mark.parametrize("problem", [BOWL, MATRIX], ids=["bowl", "matrix"])
def test_ridge_is_where_the_gradient_with_l2_is_zero(problem):
    decayed = dataclasses.replace(problem, l2=0.7)
    with devices.precision("float64"):
        at = {"x": jnp.asarray(problem.ridge(0.7))}
        grad = jax.grad(decayed.loss)(at, decayed.data())["x"]
    np.testing.assert_allclose(grad, 0, atol=1e-12)


@pytest.mark.parametrize("optimizer", [SGD(), Adam()], ids=str)
def test_coupled_decay_is_the_problems_own_l2(optimizer):
    around = end(BOWL, rule(optimizer, coupled=0.7))
    inside = end(dataclasses.replace(BOWL, l2=0.7), optimizer)
    np.testing.assert_allclose(around, inside, rtol=1e-12)


@pytest.mark.parametrize(
    ("plain", "own"),
    [(Adam(), AdamW(weight_decay=1.0)), (Lion(), Lion(weight_decay=1.0))],
    ids=["AdamW", "Lion"],
)
def test_decoupled_decay_is_the_entrys_own(plain, own):
    np.testing.assert_allclose(
        end(BOWL, rule(plain, decoupled=1.0)), end(BOWL, own), rtol=1e-12
    )
    np.testing.assert_allclose(end(BOWL, rule(own)), end(BOWL, own), rtol=1e-14)


def test_adamw_is_a_loop_in_numpy():
    hessian, target, x, m, v = BOWL.curvature(), BOWL.target(), *np.zeros((3, 2))
    for t in range(50):
        g, rate = hessian @ (x - target), 0.01 * (1 - t / 50)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
        x = x - rate * (step + 1.0 * x)
    np.testing.assert_allclose(end(BOWL, rule(Adam(), decoupled=1.0)), x, rtol=1e-10)


@pytest.mark.parametrize("exact", [False, True])
def test_muon_is_a_loop_in_numpy(exact):
    """Its average as Optax corrects it, made orthogonal, and decay beside it."""
    hessian, target = MATRIX.curvature(), MATRIX.target()
    w, m = np.zeros((2, 5, 3))
    for t in range(1, 21):
        g, rate = hessian @ (w - target), 0.01 * (1 - (t - 1) / 20)
        m = 0.95 * m + 0.05 * g
        ahead = 0.95 * m / (1 - 0.95 ** (t + 1)) + 0.05 * g / (1 - 0.95**t)
        u, _, v = np.linalg.svd(ahead, full_matrices=False)
        step = u @ v if exact else decoupled_decay.newton_schulz(ahead, 5)
        w = w - rate * (step + 0.8 * w)
    found = end(MATRIX, rule(Muon(), decoupled=0.8, exact=exact), steps=20)
    np.testing.assert_allclose(found, w, atol=1e-7)


def test_the_five_steps_singular_values_stay_between_the_predicted_bounds():
    """None passes 1.21; those above a hundredth of the matrix's length come above 0.68."""
    s = np.geomspace(1e-6, 1, 40_001)
    large = s > 0.01
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    assert s.max() < 1.21
    assert s[large].min() > 0.68


def test_a_spec_whose_dial_lacks_an_entrys_own_decay_is_refused():
    from study.errors import UserError

    with pytest.raises(UserError, match="among them"):
        dataclasses.replace(
            decoupled_decay.DEFAULT,
            decays=(0.1, 1.0, 2.0),
            optimizers=(Lion(weight_decay=0.5),),
        )
