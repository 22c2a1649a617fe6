"""Every update rule of the catalogue once more, in NumPy float64, from the papers.

A rule takes (entry, eta, theta, grads): hyperparameters from the entry, the learning rate,
a flat start [element] and flat gradients [step, element], and gives updates [step,
element]. Where leaves matter, LEAVES has their places and shapes. The loss is the one of
`study.streams`, with these VALUES and this CURVATURE. Optax is not imported here.
"""

import numpy as np

LEAVES = {
    "bias": (slice(0, 4), (4,)),
    "kernel": (slice(4, 10), (3, 2)),
    "wide": (slice(10, 16), (2, 3)),
}
VALUES = 3 * 0.8 ** np.arange(12)
CURVATURE = 1.7
GOLDEN = {}


def rule(*names):
    """Registers a function under the class names of its entries."""

    def add(function):
        GOLDEN.update(dict.fromkeys(names, function))
        return function

    return add


def ema(decay, xs, correct=True):
    """m = decay m + (1 - decay) x from 0, divided by 1 - decay^t if corrected."""
    m, out = np.zeros_like(xs[0]), []
    for t, x in enumerate(xs, 1):
        m = decay * m + (1 - decay) * x
        out.append(m / (1 - decay**t) if correct else m)
    return np.array(out)


def summed(decay, xs):
    """m = decay m + x from 0."""
    m, out = np.zeros_like(xs[0]), []
    for x in xs:
        m = decay * m + x
        out.append(m)
    return np.array(out)


def nesterov(decay, grads):
    """decay m_t / (1 - decay^(t+1)) + (1 - decay) g_t / (1 - decay^t); Dozat (2016)."""
    m = ema(decay, grads, correct=False)
    t = np.arange(1, len(grads) + 1)[:, None]
    return decay * m / (1 - decay ** (t + 1)) + (1 - decay) * grads / (1 - decay**t)


def optimistic(entry, xs):
    """(alpha + beta) x_t - beta x_(t-1); the first takes itself for the one before."""
    before = np.concatenate([xs[:1], xs[:-1]])
    return (entry.alpha + entry.beta) * xs - entry.beta * before


def root(decay, grads):
    """The root of the corrected average of squares."""
    return np.sqrt(ema(decay, grads**2))


def leafwise(function, *vectors):
    """A function of leaf vectors, leaf by leaf, as one vector."""
    return np.concatenate([function(*(v[s] for v in vectors)) for s, _ in LEAVES.values()])


# Scalar rules and averages ----------------------------------------------------------------


@rule("SGD", "NoisySGD")
def sgd(entry, eta, theta, grads):
    return -eta * grads


@rule("Momentum")
def momentum(entry, eta, theta, grads):
    return -eta * summed(entry.decay, grads)


@rule("Nesterov")
def nesterov_momentum(entry, eta, theta, grads):
    return -eta * (grads + entry.decay * summed(entry.decay, grads))


@rule("OptimisticGD")
def optimistic_gd(entry, eta, theta, grads):
    return -eta * optimistic(entry, grads)


@rule("NormalisedGD")
def normalised(entry, eta, theta, grads):
    return -eta * grads / (np.linalg.norm(grads, axis=1, keepdims=True) + entry.eps)


@rule("Averaging")
def averaging(entry, eta, theta, grads):
    return -eta * ema(entry.decay, grads)


@rule("NesterovAveraging")
def nesterov_averaging(entry, eta, theta, grads):
    return -eta * nesterov(entry.b1, grads)


@rule("TwoAverages")
def two_averages(entry, eta, theta, grads):
    slow = ema(entry.b3, grads, correct=False)
    return -eta * (ema(entry.b1, grads) + entry.alpha * slow)


@rule("DifferenceAveraging")
def difference_averaging(entry, eta, theta, grads):
    change = np.diff(grads, axis=0, prepend=grads[:1])
    return -eta * (ema(entry.b1, grads) + (1 - entry.b2) * ema(entry.b2, change))


@rule("OptimisticAveraging")
def optimistic_averaging(entry, eta, theta, grads):
    return -eta * optimistic(entry, nesterov(entry.b1, grads))


@rule("LionAveraging")
def lion_averaging(entry, eta, theta, grads):
    return -eta * lion_average(entry, grads)


def lion_average(entry, grads):
    """Chen et al. (2023), Algorithm 2: b1 m_(t-1) + (1 - b1) g_t."""
    m = ema(entry.b2, grads, correct=False)
    before = np.concatenate([np.zeros_like(m[:1]), m[:-1]])
    return entry.b1 * before + (1 - entry.b1) * grads


# Signs ------------------------------------------------------------------------------------


@rule("SignDescent")
def sign_descent(entry, eta, theta, grads):
    return -eta * np.sign(grads)


@rule("CoordinateDescent")
def coordinate_descent(entry, eta, theta, grads):
    largest = np.argmax(np.abs(grads), axis=1)
    return -eta * np.sign(grads) * (np.arange(grads.shape[1]) == largest[:, None])


@rule("RescaledSignDescent")
def rescaled_sign(entry, eta, theta, grads):
    return -eta * np.abs(grads).mean(1, keepdims=True) * np.sign(grads)


@rule("Signum")
def signum(entry, eta, theta, grads):
    return -eta * np.sign(ema(entry.beta, grads))


@rule("Lion")
def lion(entry, eta, theta, grads):
    return -eta * np.sign(lion_average(entry, grads))


@rule("ErrorFeedbackSign")
def error_feedback_sign(entry, eta, theta, grads):
    """Karimireddy et al. (2019), Algorithm 2, on the momentum sum."""
    error, out = np.zeros_like(theta), []
    for g in summed(entry.decay, grads):
        whole = g + error
        step = np.abs(whole).mean() * np.sign(whole)
        error = whole - step
        out.append(-eta * step)
    return np.array(out)


@rule("Rprop")
def rprop(entry, eta, theta, grads):
    """Riedmiller & Braun (1993), each update a step late as in Optax."""
    size, last, before, out = np.full_like(theta, eta), 0 * theta, 0 * theta, []
    for g in grads:
        product = g * last
        grown = np.where(product > 0, size * entry.eta_plus, size * entry.eta_minus)
        grown = np.clip(grown, entry.min_step_size, entry.max_step_size)
        size = np.where(product == 0, size, grown)
        out.append(-np.where(product < 0, 0, before))
        before = np.where(product < 0, 0, size * np.sign(g))
        last = before  # a changed sign also forgets the gradient
    return np.array(out)


# Element-wise -----------------------------------------------------------------------------


@rule("Adagrad")
def adagrad(entry, eta, theta, grads):
    total = entry.initial_accumulator + np.cumsum(grads**2, axis=0)
    return -eta * grads / np.sqrt(total + entry.eps)


@rule("Adadelta")
def adadelta(entry, eta, theta, grads):
    """Zeiler (2012), Algorithm 1."""
    v, x, out = 0 * theta, 0 * theta, []
    for g in grads:
        v = entry.rho * v + (1 - entry.rho) * g**2
        step = np.sqrt(x + entry.eps) / np.sqrt(v + entry.eps) * g
        x = entry.rho * x + (1 - entry.rho) * step**2
        out.append(-eta * step)
    return np.array(out)


@rule("RMSProp")
def rmsprop(entry, eta, theta, grads):
    return -eta * grads / (root(entry.decay, grads) + entry.eps)


@rule("PlainRMSProp")
def plain_rmsprop(entry, eta, theta, grads):
    return -eta * grads / np.sqrt(ema(entry.decay, grads**2, correct=False) + entry.eps)


@rule("CentredRMSProp")
def centred_rmsprop(entry, eta, theta, grads):
    """Graves (2013), equations 38 to 40, without its momentum."""
    mean = ema(entry.decay, grads, correct=False)
    square = ema(entry.decay, grads**2, correct=False)
    return -eta * grads / np.sqrt(square - mean**2 + entry.eps)


@rule("MomentumRMSProp")
def momentum_rmsprop(entry, eta, theta, grads):
    return summed(entry.momentum, plain_rmsprop(entry, eta, theta, grads))


@rule("ACProp")
def acprop(entry, eta, theta, grads):
    """Zhuang et al. (2021), Algorithm 2; centred on m_(t-1), eps_root in s, as in Optax."""
    m, s, out = 0 * theta, 0 * theta, []
    for t, g in enumerate(grads):
        scale = np.sqrt(s / (1 - entry.b2**t)) + entry.eps if t else 1 + entry.eps
        out.append(-eta * g / scale)
        s = entry.b2 * s + (1 - entry.b2) * (g - m) ** 2 + entry.eps_root
        m = entry.b1 * m + (1 - entry.b1) * g
    return np.array(out)


@rule("ADOPT")
def adopt(entry, eta, theta, grads):
    """Taniguchi et al. (2024), Algorithm 2: v_0 = g_0^2, clipped at t^(1/4)."""
    v, m, out = grads[0] ** 2, 0 * theta, [0 * theta]
    for t, g in enumerate(grads[1:], 1):
        c = np.clip(g / np.maximum(np.sqrt(v), entry.eps), -(t**0.25), t**0.25)
        m = entry.b1 * m + (1 - entry.b1) * c
        out.append(-eta * m)
        v = entry.b2 * v + (1 - entry.b2) * g**2
    return np.array(out)


@rule("Padam")
def padam(entry, eta, theta, grads):
    m = ema(entry.b1, grads, correct=False)
    top = np.maximum.accumulate(ema(entry.b2, grads**2, correct=False))
    return -eta * m / (top**entry.p + entry.eps)


@rule("MSVAG")
def msvag(entry, eta, theta, grads):
    """Balles & Hennig (2018), Algorithm 1: rho is the sum of squared weights of m."""
    m, v, out = ema(entry.decay, grads), ema(entry.decay, grads**2), []
    for t in range(len(grads)):
        weights = entry.decay ** np.arange(t + 1)
        rho = np.sum((weights / weights.sum()) ** 2)
        s = (v[t] - m[t] ** 2) / (1 - rho) if t else 0 * theta
        total = m[t] ** 2 + rho * s
        out.append(-eta * m[t] ** 3 / np.where(total == 0, 1, total))
    return np.array(out)


@rule("MADGRAD")
def madgrad(entry, eta, theta, grads):
    """Defazio & Jelassi (2021), Algorithm 1; eps is also added to eta, as they code it."""
    start, s, v, out = theta, 0 * theta, 0 * theta, []
    for k, g in enumerate(grads, 1):
        weight = (eta + entry.eps) * np.sqrt(k)
        s, v = s + weight * g, v + weight * g**2
        z = start - s / (np.cbrt(v) + entry.eps)
        new = (1 - entry.momentum) * z + entry.momentum * theta
        out.append(new - theta)
        theta = new
    return np.array(out)


@rule("COCOB")
def cocob(entry, eta, theta, grads):
    """Orabona & Tommasi (2017), Algorithm 2 (COCOB-Backprop)."""
    start, out = theta, []
    top, total, reward, away = np.full_like(theta, entry.eps), 0, 0, 0
    for g in eta * grads:
        top = np.maximum(top, np.abs(g))
        total = total + np.abs(g)
        reward = np.maximum(reward - g * (theta - start), 0)
        away = away - g
        fraction = away / (top * np.maximum(total + top, entry.alpha * top))
        new = start + fraction * (top + reward)
        out.append(new - theta)
        theta = new
    return np.array(out)


# Adam's family ----------------------------------------------------------------------------


@rule("Adam", "AdamW")
def adam(entry, eta, theta, grads):
    return -eta * ema(entry.b1, grads) / (root(entry.b2, grads) + entry.eps)


@rule("Adamax", "AdamaxW")
def adamax(entry, eta, theta, grads):
    v, out = 0 * theta, []
    for m, g in zip(ema(entry.b1, grads), grads, strict=True):
        v = np.maximum(entry.b2 * v, np.abs(g) + entry.eps)
        out.append(-eta * m / v)
    return np.array(out)


@rule("AMSGrad")
def amsgrad(entry, eta, theta, grads):
    top = np.maximum.accumulate(root(entry.b2, grads))
    return -eta * ema(entry.b1, grads) / (top + entry.eps)


@rule("NAdam", "NAdamW")
def nadam(entry, eta, theta, grads):
    return -eta * nesterov(entry.b1, grads) / (root(entry.b2, grads) + entry.eps)


@rule("RAdam")
def radam(entry, eta, theta, grads):
    """Liu et al. (2020), Algorithm 2, with the authors' later threshold for their 4."""
    m, v = ema(entry.b1, grads), root(entry.b2, grads)
    t = np.arange(1, len(grads) + 1)[:, None]
    last = 2 / (1 - entry.b2) - 1
    rho = last - 2 * t * entry.b2**t / (1 - entry.b2**t)
    trusted = rho >= entry.threshold
    safe = np.where(trusted, rho, last)
    r = np.sqrt((safe - 4) * (safe - 2) * last / ((last - 4) * (last - 2) * safe))
    return -eta * np.where(trusted, r * m / (v + entry.eps), m)


@rule("AdaBelief")
def adabelief(entry, eta, theta, grads):
    """Zhuang et al. (2020), Algorithm 2: s is around m_t, eps_root is summed with it."""
    s, out = 0 * theta, []
    for t, (g, m) in enumerate(
        zip(grads, ema(entry.b1, grads, correct=False), strict=True), 1
    ):
        s = entry.b2 * s + (1 - entry.b2) * (g - m) ** 2 + entry.eps_root
        scale = np.sqrt(s / (1 - entry.b2**t)) + entry.eps
        out.append(-eta * m / (1 - entry.b1**t) / scale)
    return np.array(out)


@rule("Yogi")
def yogi(entry, eta, theta, grads):
    """Zaheer et al. (2018), Algorithm 2; m_0 = v_0, bias corrected as Optax has it."""
    m = v = np.full_like(theta, entry.initial_accumulator)
    out = []
    for t, g in enumerate(grads, 1):
        m = entry.b1 * m + (1 - entry.b1) * g
        v = v - (1 - entry.b2) * np.sign(v - g**2) * g**2
        scale = np.sqrt(v / (1 - entry.b2**t)) + entry.eps
        out.append(-eta * m / (1 - entry.b1**t) / scale)
    return np.array(out)


@rule("Adan")
def adan(entry, eta, theta, grads):
    """Xie et al. (2022), Algorithm 1, decays as what is kept; bias corrected, as Optax."""
    change = np.diff(grads, axis=0, prepend=grads[:1])
    n = ema(entry.b3, (grads + (1 - entry.b2) * change) ** 2)
    step = ema(entry.b1, grads) + (1 - entry.b2) * ema(entry.b2, change)
    return -eta * step / (np.sqrt(n + entry.eps_root) + entry.eps)


@rule("OptimisticAdam")
def optimistic_adam(entry, eta, theta, grads):
    return optimistic(entry, nadam(entry, eta, theta, grads))


@rule("AdEMAMix")
def ademamix(entry, eta, theta, grads):
    step = two_averages(entry, eta, theta, grads)
    return step / (root(entry.b2, grads) + entry.eps)


@rule("SimplifiedAdEMAMix")
def simplified_ademamix(entry, eta, theta, grads):
    return -eta * summed(entry.b1, grads) / (root(entry.b2, grads) + entry.eps)
