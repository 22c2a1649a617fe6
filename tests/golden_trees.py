"""More of `golden`: rules that see leaves, matrices or the curvature of the loss."""

import numpy as np
from golden import CURVATURE, LEAVES, ema, leafwise, nesterov, root, rule, summed

# Leaf by leaf -----------------------------------------------------------------------------


def by_leaf(grads, matrix, vector, *others):
    """Updates from functions of a leaf's gradients [step, ...], matrices and vectors."""
    parts = []
    for place, shape in LEAVES.values():
        leaf = grads[:, place].reshape(-1, *shape)
        made = (matrix if len(shape) == 2 else vector)(leaf, *(x[place] for x in others))
        parts.append(np.reshape(made, (len(grads), -1)))
    return np.concatenate(parts, axis=1)


@rule("NormalisedByLeaf")
def normalised_by_leaf(entry, eta, theta, grads):
    unit = lambda g: g / (np.linalg.norm(g) + entry.eps)  # noqa: E731
    return np.array([-eta * leafwise(unit, g) for g in grads])


def trust(a, w, coefficient=1.0):
    """A as long as coefficient |w|; itself where w is 0, on which the papers are silent."""
    if not w.any():
        return a
    return coefficient * np.linalg.norm(w) / np.linalg.norm(a) * a


@rule("LARS")
def lars(entry, eta, theta, grads):
    """You et al. (2017), Algorithm 1, without decay."""
    u, out = 0 * theta, []
    for g in grads:
        trusted = leafwise(lambda a, w: trust(a, w, entry.trust_coefficient), g, theta)
        u = entry.momentum * u - eta * trusted
        out.append(u)
        theta = theta + u
    return np.array(out)


@rule("LAMB")
def lamb(entry, eta, theta, grads):
    """You et al. (2020), Algorithm 2, phi the identity, without decay."""
    out = []
    for a in ema(entry.b1, grads) / (root(entry.b2, grads) + entry.eps):
        out.append(-eta * leafwise(trust, a, theta))
        theta = theta + out[-1]
    return np.array(out)


@rule("NovoGrad")
def novograd(entry, eta, theta, grads):
    """Ginsburg et al. (2019), Algorithm 1: v_1 = |g_1|^2, the momentum not averaged."""
    squares = np.array([[np.sum(g[s] ** 2) for s, _ in LEAVES.values()] for g in grads])
    v, scaled = squares[0], []
    for t, g in enumerate(grads):
        v = squares[0] if not t else entry.b2 * v + (1 - entry.b2) * squares[t]
        parts = [g[s] for s, _ in LEAVES.values()]
        lengths = np.sqrt(v) + entry.eps
        scaled.append(np.concatenate([p / n for p, n in zip(parts, lengths, strict=True)]))
    return -eta * summed(entry.b1, np.array(scaled))


@rule("Fromage")
def fromage(entry, eta, theta, grads):
    """Bernstein et al. (2020), Algorithm 1, both lengths at least min_norm."""
    size = lambda x: max(np.linalg.norm(x), entry.min_norm)  # noqa: E731
    step = lambda w, g: w - eta * size(w) / size(g) * g  # noqa: E731
    out = []
    for g in grads:
        new = leafwise(step, theta, g) / np.sqrt(1 + eta**2)
        out.append(new - theta)
        theta = new
    return np.array(out)


@rule("Adafactor")
def adafactor(entry, eta, theta, grads):
    """Shazeer & Stern (2018), Algorithms 4 and 5, d = 1, step eta max(1e-3, rms(theta))."""
    rms = lambda x: np.sqrt(np.mean(x**2))  # noqa: E731

    def leaf(gs, at):
        factored = gs.ndim == 3 and min(gs.shape[1:]) >= entry.min_dim_size_to_factor
        rows = columns = v = 0.0
        out = []
        for t, g in enumerate(gs, 1):
            kept, square = 1 - t**-entry.decay_rate, g**2 + entry.eps
            if factored:
                rows = kept * rows + (1 - kept) * square.mean(1)
                columns = kept * columns + (1 - kept) * square.mean(0)
                v = np.outer(rows, columns) / np.mean(rows)
            else:
                v = kept * v + (1 - kept) * square
            a = g / np.sqrt(v)
            scale = max(1e-3, rms(at)) if entry.multiply_by_parameter_scale else 1.0
            out.append(-eta * scale * a / max(1.0, rms(a)))
            at = at + out[-1].ravel()
        return out

    return by_leaf(grads, leaf, leaf, theta)


@rule("SM3")
def sm3(entry, eta, theta, grads):
    """Anil et al. (2019), SM3-II: covers are rows and columns, or elements of vectors."""

    def matrix(gs):
        rows, columns, out = np.zeros((gs.shape[1], 1)), np.zeros((1, gs.shape[2])), []
        for g in gs:
            v = np.minimum(rows, columns) + g**2
            rows, columns = v.max(1, keepdims=True), v.max(0, keepdims=True)
            out.append(g / np.sqrt(v + entry.eps))
        return out

    def vector(gs):
        return gs / np.sqrt(np.cumsum(gs**2, axis=0) + entry.eps)

    return -eta * ema(entry.b1, by_leaf(grads, matrix, vector), correct=False)


# Matrices and curvature -------------------------------------------------------------------


@rule("Muon")
def muon(entry, eta, theta, grads):
    """Jordan et al. (2024): quintic steps on m / |m|; m is bias corrected as in Optax."""

    def orthogonal(m):
        x = m / (np.linalg.norm(m) + entry.eps)
        x = x.T if x.shape[0] > x.shape[1] else x
        for _ in range(entry.ns_steps):
            a = x @ x.T
            x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
        return x.T if m.shape[0] > m.shape[1] else x

    def matrix(gs):  # rows are inputs: wider outputs take longer steps
        longer = np.sqrt(max(1.0, gs.shape[2] / gs.shape[1]))
        flat = nesterov(entry.beta, gs.reshape(len(gs), -1))
        return [-eta * longer * orthogonal(m) for m in flat.reshape(gs.shape)]

    def vector(gs):
        return -eta * nesterov(0.9, gs) / (root(0.999, gs) + entry.eps)

    return by_leaf(grads, matrix, vector)


@rule("GaLore")
def galore(entry, eta, theta, grads):
    """Zhao et al. (2024), Algorithm 2: Adam on P' G, on G P for wide matrices.

    As Optax has it: the authors project the shorter side, not the longer.
    """

    def adam(gs):
        return -eta * ema(0.9, gs) / (np.sqrt(ema(0.999, gs**2)) + 1e-8)

    def matrix(gs):
        u, _, v = np.linalg.svd(gs[0], full_matrices=False)
        rank = min(entry.rank, *gs.shape[1:])
        if gs.shape[1] >= gs.shape[2]:
            p = u[:, :rank]
            return p @ adam(p.T @ gs)
        p = v[:rank].T
        return adam(gs @ p) @ p.T

    return by_leaf(grads, matrix, adam)


@rule("Shampoo")
def shampoo(entry, eta, theta, grads):
    """Gupta et al. (2018), Algorithms 1 and 2."""

    def power(h, exponent):
        values, vectors = np.linalg.eigh(h)
        return vectors @ np.diag(values**exponent) @ vectors.T

    def matrix(gs):
        left, right = (entry.eps * np.eye(n) for n in gs.shape[1:])
        out = []
        for g in gs:
            left, right = left + g @ g.T, right + g.T @ g
            out.append(-eta * power(left, -0.25) @ g @ power(right, -0.25))
        return out

    def vector(gs):
        h, out = entry.eps * np.eye(gs.shape[1]), []
        for g in gs:
            h = h + np.outer(g, g)
            out.append(-eta * power(h, -0.5) @ g)
        return out

    return by_leaf(grads, matrix, vector)


def quasi_newton(grads, places, memory):
    """H g at the last of these places: Nocedal & Wright (2006), 7.17 and gamma of 7.20."""
    if len(grads) == 1:
        return min(1.0, 1 / np.linalg.norm(grads[0])) * grads[0]
    moves, changes = np.diff(places, axis=0), np.diff(grads, axis=0)
    eye = np.eye(len(grads[0]))
    h = moves[-1] @ changes[-1] / (changes[-1] @ changes[-1]) * eye
    for s, y in zip(moves[-memory:], changes[-memory:], strict=True):
        v = eye - np.outer(y, s) / (y @ s)
        h = v.T @ h @ v + np.outer(s, s) / (y @ s)
    return h @ grads[-1]


@rule("LBFGS")
def lbfgs(entry, eta, theta, grads):
    places, out = [theta], []
    for t in range(1, len(grads) + 1):
        out.append(-eta * quasi_newton(grads[:t], places, entry.memory_size))
        places.append(places[-1] + out[-1])
    return np.array(out)


@rule("Sophia")
def sophia(entry, eta, theta, grads):
    """Liu et al. (2023), Algorithm 3, the Hessian diagonal CURVATURE every ten steps.

    As Optax has it: m is bias corrected, and an estimate serves from the next step on.
    """
    known = np.ceil(np.arange(len(grads)) / 10)[:, None]
    h = CURVATURE * (1 - entry.b2**known)
    step = ema(entry.b1, grads) / np.maximum(entry.gamma * h, entry.eps)
    return -eta * np.clip(step, -1, 1)
