"""More of `golden`: rules that look for a step length, and rules around another rule."""

import numpy as np
from golden import CURVATURE, VALUES, root, rule

# A step length of their own ---------------------------------------------------------------


@rule("PolyakSGD")
def polyak(entry, eta, theta, grads):
    """Loizou et al. (2021), equation 4 with c = 1."""
    lengths = np.sum(grads**2, axis=1) + entry.eps
    steps = np.minimum(eta, (VALUES[: len(grads)] - entry.f_min) / lengths)
    return -steps[:, None] * grads


def momo_steps(entry, eta, theta, grads, decay, scales, corrections):
    """Schaipp et al. (2024), Algorithms 1 and 2."""
    f = products = 0.0
    d, out = 0 * theta, []
    for t, (kept, g) in enumerate(zip(decay, grads, strict=True)):
        scale, correction = scales[t], corrections[t]
        f = kept * f + (1 - kept) * VALUES[t]
        products = kept * products + (1 - kept) * (g @ theta)
        d = kept * d + (1 - kept) * g
        gap = max(f + d @ theta - products - correction * entry.lower_bound, 0.0)
        length = min(eta / correction, gap / (d @ (d / scale)))
        out.append(-length * d / scale)
        theta = theta + out[-1]
    return np.array(out)


@rule("MoMo")
def momo(entry, eta, theta, grads):
    """The averages start at the first loss and gradient."""
    ones = np.ones(len(grads))
    decay = [0.0, *[entry.beta] * (len(grads) - 1)]
    return momo_steps(entry, eta, theta, grads, decay, ones[:, None], ones)


@rule("MoMoAdam")
def momo_adam(entry, eta, theta, grads):
    scales = root(entry.b2, grads) + entry.eps
    corrections = 1 - entry.b1 ** np.arange(1, len(grads) + 1)
    decay = [entry.b1] * len(grads)
    return momo_steps(entry, eta, theta, grads, decay, scales, corrections)


@rule("DoG")
def dog(entry, eta, theta, grads):
    """Ivgi et al. (2023), equation 2, first distance 1e-6 (1 + |theta_0|)."""
    start, far, total, out = theta, 1e-6 * (1 + np.linalg.norm(theta)), 0.0, []
    for g in grads:
        far = max(far, np.linalg.norm(theta - start))
        total += g @ g
        out.append(-eta * far / np.sqrt(total + entry.eps) * g)
        theta = theta + out[-1]
    return np.array(out)


@rule("DoWG")
def dowg(entry, eta, theta, grads):
    """Khaled et al. (2023), Algorithm 1, with squared distances."""
    start, far, total, out = theta, entry.init_estim_sq_dist, 0.0, []
    for g in grads:
        far = max(far, np.sum((theta - start) ** 2))
        total += far * (g @ g)
        out.append(-eta * far / (np.sqrt(total) + entry.eps) * g)
        theta = theta + out[-1]
    return np.array(out)


@rule("DAdaptAdamW")
def d_adaptation(entry, eta, theta, grads):
    """Defazio & Mishchenko (2023), Algorithm 5, d_0 = 1e-6, bias corrected as in Optax."""
    d, b3, weighted = 1e-6, np.sqrt(entry.b2), 0.0
    s, m, v, out = 0 * theta, 0 * theta, 0 * theta, []
    for t, g in enumerate(grads, 1):
        step = d * eta * np.sqrt(1 - entry.b2**t) / (1 - entry.b1**t)
        product = g @ (s / (np.sqrt(v) + entry.eps))
        m = entry.b1 * m + (1 - entry.b1) * step * g
        v = entry.b2 * v + (1 - entry.b2) * g**2
        s = b3 * s + (1 - b3) * step * g
        weighted = b3 * weighted + (1 - b3) * step * product
        out.append(-m / (np.sqrt(v) + entry.eps))
        d = max(d, weighted / ((1 - b3) * np.abs(s).sum()))
    return np.array(out)


@rule("Prodigy")
def prodigy(entry, eta, theta, grads):
    """Mishchenko & Defazio (2024), Algorithm 4, d_0 = 1e-6, bias corrected as in Optax."""
    d = first = 1e-6
    start, b3, r = theta, np.sqrt(entry.b2), 0.0
    s, m, v, out = 0 * theta, 0 * theta, 0 * theta, []
    for t, g in enumerate(grads, 1):
        step = d * eta * np.sqrt(1 - entry.b2**t) / (1 - entry.b1**t)
        m = entry.b1 * m + (1 - entry.b1) * d * g
        v = entry.b2 * v + (1 - entry.b2) * d**2 * g**2
        r = b3 * r + d / first * step * (g @ (start - theta))
        s = b3 * s + d / first * step * g
        out.append(-step * m / (np.sqrt(v) + d * entry.eps))
        theta = theta + out[-1]
        d = max(d, r / np.abs(s).sum())
    return np.array(out)


# Wrappers ---------------------------------------------------------------------------------


@rule("Lookahead")
def lookahead(entry, eta, theta, grads):
    """Zhang et al. (2019), Algorithm 1: back towards the slow weights every period."""
    slow, out = theta, []
    for t, g in enumerate(grads, 1):
        new = theta - eta * g
        if t % entry.sync_period == 0:
            slow = new = slow + entry.slow_step_size * (new - slow)
        out.append(new - theta)
        theta = new
    return np.array(out)


@rule("Mechanize")
def mechanic(entry, eta, theta, grads):
    """Cutkosky et al. (2023), Algorithm 1, six betas, around SGD."""
    start, delta, out = theta, 0 * theta, []
    betas = 1 - 0.1 ** np.arange(1, 7)
    m, v, r, s = np.zeros(6), np.zeros(6), np.zeros(6), np.full(6, 1e-6)
    for g in grads:
        before = (start - theta) / (s.sum() + entry.eps)
        delta = before + eta * g
        h = g @ before
        clipped = np.clip(h, -m, m)
        m = np.maximum(betas * m, abs(h) + entry.eps)
        v = betas**2 * v + h**2
        r = betas * r + clipped * s
        wealth = 1e-6 / 6 * m + np.maximum(r, 0)
        s = wealth / (np.sqrt(v) + entry.eps)
        new = start - s.sum() * delta
        out.append(new - theta)
        theta = new
    return np.array(out)


@rule("SAM")
def sam(entry, eta, theta, grads):
    """Foret et al. (2021), Algorithm 1, where the Hessian is CURVATURE I."""
    lengths = np.linalg.norm(grads, axis=1, keepdims=True)
    return -eta * (grads + CURVATURE * entry.rho * grads / lengths)


def schedule_free(entry, theta, steps):
    """Defazio et al. (2024), Algorithm 1: what moves is y = (1 - b1) z + b1 x."""
    x = z = y = theta
    out = []
    for t, step in enumerate(steps, 1):
        z = z + step
        x = (1 - 1 / t) * x + z / t
        new = (1 - entry.b1) * z + entry.b1 * x
        out.append(new - y)
        y = new
    return np.array(out)


@rule("ScheduleFreeSGD")
def schedule_free_sgd(entry, eta, theta, grads):
    return schedule_free(entry, theta, -eta * grads)


@rule("ScheduleFreeAdamW")
def schedule_free_adamw(entry, eta, theta, grads):
    steps = -eta * grads / (root(entry.b2, grads) + entry.eps)
    return schedule_free(entry, theta, steps)


@rule("DPSGD")
def dpsgd(entry, eta, theta, grads):
    """Abadi et al. (2016), Algorithm 1, one example a batch, without its noise."""
    lengths = np.linalg.norm(grads, axis=1, keepdims=True)
    return -eta * grads / np.maximum(1, lengths / entry.l2_norm_clip)
