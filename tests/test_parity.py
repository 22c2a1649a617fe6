"""PyTorch's optimizers and ours on the same gradients, their differences set equal.

20 steps in float64; each row says which difference had to be set equal.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import vector

from study.optimizers import OPTIMIZERS

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: pip install '.[parity]'"
)

STEPS, RATE = 20, 0.01
RANDOM = np.random.default_rng(5)
THETA = {"kernel": RANDOM.normal(size=(6, 4)), "bias": RANDOM.normal(size=4)}
GRADS = [{k: RANDOM.normal(size=v.shape) for k, v in THETA.items()} for _ in range(STEPS)]


def entry(name, **fields):
    """An entry of the catalogue, at our learning rate."""
    return OPTIMIZERS[name](**fields).build(RATE)


def root_scaled(rule, b2):
    """A rule whose step t is multiplied by sqrt(1 - b2^t)."""
    schedule = lambda count: jnp.sqrt(1 - b2 ** (count + 1))  # noqa: E731
    return optax.chain(rule, optax.scale_by_schedule(schedule))


def amsgrad():
    """Optax takes the maximum of corrected squares, PyTorch of uncorrected ones."""
    rule = optax.scale_by_amsgrad(eps=0.0, bias_correction_nu=False)
    return root_scaled(optax.chain(rule, optax.scale_by_learning_rate(RATE)), 0.999)


NO_EPS = {"eps": 0.0}
# Ours: PyTorch's class, its arguments, our rule, what had to be set equal.
PAIRS = {
    "SGD": ("SGD", {}, entry("SGD"), "nothing"),
    "Momentum": ("SGD", {"momentum": 0.9}, entry("Momentum"), "nothing"),
    "Nesterov": (
        "SGD",
        {"momentum": 0.9, "nesterov": True},
        entry("Nesterov"),
        "nothing",
    ),
    "Adagrad": (
        "Adagrad",
        {"initial_accumulator_value": 0.1, "eps": 0.0},
        entry("Adagrad", eps=0.0),
        "start 0.1 (PyTorch: 0); eps 0 (PyTorch adds it outside the root)",
    ),
    "Adadelta": ("Adadelta", {}, entry("Adadelta"), "nothing"),
    "RMSProp": (
        "RMSprop",
        {"alpha": 0.9, "eps": 0.0},
        entry("PlainRMSProp", eps=0.0),
        "decay 0.9 (PyTorch: 0.99); eps 0 (Optax adds it inside the root)",
    ),
    "CentredRMSProp": (
        "RMSprop",
        {"alpha": 0.9, "eps": 0.0, "centered": True},
        entry("CentredRMSProp", eps=0.0),
        "decay 0.9; eps 0",
    ),
    "MomentumRMSProp": (
        "RMSprop",
        {"alpha": 0.9, "eps": 0.0, "momentum": 0.9},
        entry("MomentumRMSProp", eps=0.0),
        "decay 0.9; eps 0; a constant rate (inside the momentum in Optax, outside there)",
    ),
    "Adam": ("Adam", {}, entry("Adam"), "nothing"),
    "AdamW": (
        "AdamW",
        {"weight_decay": 0.01},
        entry("AdamW", weight_decay=0.01),
        "weight decay 0.01 (Optax: 1e-4)",
    ),
    "Adamax": ("Adamax", {}, entry("Adamax"), "nothing"),
    "AMSGrad": (
        "Adam",
        {"amsgrad": True, "eps": 0.0},
        amsgrad(),
        "the maximum is taken before bias correction; eps 0",
    ),
    "NAdam": (
        "NAdam",
        {"momentum_decay": 1e6},
        entry("NAdam"),
        "PyTorch's warm-up of the momentum over at once",
    ),
    "RAdam": (
        "RAdam",
        NO_EPS,
        entry("RAdam", eps=0.0),
        "eps 0 (PyTorch adds it before bias correction)",
    ),
    "Rprop": (
        "Rprop",
        {},
        entry("Rprop"),
        "Optax returns the step before, unless the sign has changed since",
    ),
    "Adafactor": (
        "Adafactor",
        {"weight_decay": 0.0},
        entry("Adafactor"),
        "every matrix factored; PyTorch's cap of the rate, 1 / sqrt(t), not reached",
    ),
}
NOT_COMPARABLE = {
    "ASGD": "averages its iterates, which no optimizer of Optax does",
    "LBFGS": "evaluates several times a step, and divides the first by |g|_1",
    "Muon": "orthogonalises in bfloat16, and does not correct the average's bias",
    "SparseAdam": "Adam on sparse gradients",
}


def by_torch(name, arguments):
    """Updates [step, element] of a PyTorch optimizer."""
    leaves = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in THETA.items()}
    rule = getattr(torch.optim, name)(leaves.values(), lr=RATE, **arguments)
    updates = []
    for grads in GRADS:
        before = {k: v.detach().clone() for k, v in leaves.items()}
        for k, leaf in leaves.items():
            leaf.grad = torch.tensor(grads[k])
        rule.step()
        updates.append(
            vector({k: (v.detach() - before[k]).numpy() for k, v in leaves.items()})
        )
    return np.array(updates)


def by_optax(rule):
    """Updates [step, element] of an Optax transformation."""
    params = jax.tree.map(jnp.asarray, THETA)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *GRADS)

    def advance(carry, grad):
        params, state = carry
        update, state = rule.update(grad, state, params)
        return (optax.apply_updates(params, update), state), update

    run = jax.jit(lambda start, grads: jax.lax.scan(advance, start, grads)[1])
    found = run((params, rule.init(params)), stacked)
    steps = [jax.tree.map(lambda u, t=t: u[t], found) for t in range(STEPS)]
    return np.array([vector(step) for step in steps])


@pytest.mark.parametrize("ours", PAIRS)
def test_updates_equal_pytorchs(ours):
    name, arguments, rule, _ = PAIRS[ours]
    with jax.enable_x64(True):
        found = by_optax(rule)
    expected = by_torch(name, arguments)
    if ours == "Rprop":
        # PyTorch's 0 says that the sign has changed.
        found, expected = found[1:], np.where(expected[1:] == 0, 0, expected[:-1])
    errors = np.linalg.norm(found - expected, axis=1)
    assert np.all(errors <= 1e-5 * np.linalg.norm(expected, axis=1))


def test_every_optimizer_of_pytorch_is_compared_or_says_why_not():
    exported = {
        name
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    } - {"Optimizer"}
    compared = {name for name, *_ in PAIRS.values()}
    assert exported == compared | set(NOT_COMPARABLE)
    assert not compared & set(NOT_COMPARABLE)
