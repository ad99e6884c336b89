"""Records SwitchableNorm, EvoNorm, PowerNorm and ActNorm by their papers' formulas: tests/golden/mixed.json.

Run: python3 tests/golden/mixed.py          (torch >= 1.13 and numpy)

Gradients come from torch's autograd on the plain formulas, those of PowerNorm from algorithm 2 of its paper in numpy: it
is not the derivative of anything.
"""

import numpy as np
import torch
from recording import by_name, case, exact, follow, numbers, step, write

torch.manual_seed(20240501)
cases = []


def channels(t, x, axis):
    shape = [1] * x.dim()
    shape[axis] = -1
    return t.reshape(shape)


def others(x, *kept):
    return [a for a in range(x.dim()) if a not in [k % x.dim() for k in kept]]


def moments(x, axes):
    mean = x.mean(axes, keepdim=True)
    return mean, ((x - mean) ** 2).mean(axes, keepdim=True)


def move(buffers, weight, **new):
    for name, value in new.items():
        buffers[name] = (1 - weight) * buffers[name] + weight * value.detach().reshape(-1)


# Luo et al. 2018, equations 2 to 5.
def switchable(p, b, training, x, eps=1e-5, momentum=0.1, axis=1, bn=True, unbiased=False):
    axis = axis % x.dim()
    mean_in, var_in = moments(x, others(x, 0, axis))
    m = x.numel() // mean_in.numel()
    if unbiased:
        # The authors' code: the instance's variance over n - 1, the others from it.
        var_in = var_in * m / (m - 1)
        second = var_in + mean_in**2
        mean_ln, mean_bn = mean_in.mean(axis, keepdim=True), mean_in.mean(0, keepdim=True)
        var_ln = second.mean(axis, keepdim=True) - mean_ln**2
        var_bn = second.mean(0, keepdim=True) - mean_bn**2
    else:
        mean_ln, var_ln = moments(x, others(x, 0))
        mean_bn, var_bn = moments(x, others(x, axis))
    if bn:
        n = x.numel() // x.shape[axis]
        if training:
            b["num_batches_tracked"] = b["num_batches_tracked"] + 1
            w = 1 / int(b["num_batches_tracked"]) if momentum is None else momentum
            factor = 1 if unbiased else n / (n - 1)
            move(b, w, running_mean=mean_bn, running_var=factor * var_bn)
        else:
            mean_bn, var_bn = channels(b["running_mean"], x, axis), channels(b["running_var"], x, axis)
    means, variances = [mean_in, mean_ln, mean_bn], [var_in, var_ln, var_bn]
    a, c = torch.softmax(p["mean_weight"], 0), torch.softmax(p["var_weight"], 0)
    mean = sum(a[k] * means[k] for k in range(len(a)))
    var = sum(c[k] * variances[k] for k in range(len(c)))
    return channels(p["weight"], x, axis) * (x - mean) / torch.sqrt(var + eps) + channels(p["bias"], x, axis)


for shape, options in [
    ((3, 4, 5), {}),
    ((2, 3, 2, 3), {"eps": 0.01, "momentum": 0.3}),
    ((2, 5, 3), {"axis": -1, "useMovingAverage": False}),
    ((3, 3, 4), {"useBatchNorm": False}),
    ((3, 4, 5), {"normalizingVariance": "unbiased", "runningVariance": "biased"}),
]:
    axis = options.get("axis", 1)
    c = shape[axis]
    bn = options.get("useBatchNorm", True)
    p = {"weight": exact(c), "bias": exact(c), "mean_weight": exact(3 if bn else 2), "var_weight": exact(3 if bn else 2)}
    b = {"running_mean": torch.zeros(c), "running_var": torch.ones(c), "num_batches_tracked": torch.tensor(0)} if bn else {}
    first = by_name(b)
    momentum = None if options.get("useMovingAverage") is False else options.get("momentum", 0.1)
    arguments = dict(eps=options.get("eps", 1e-5), momentum=momentum, axis=axis, bn=bn)
    arguments["unbiased"] = "normalizingVariance" in options
    formula = lambda *a: switchable(*a, **arguments)
    calls = [(training, [exact(*shape, mean=0.5)]) for training in (True, True, False)]
    cases.append(case("SwitchableNorm", [c], options, p, b, follow(formula, p, b, calls), first))


# Liu et al. 2020, table 4.
def evo_b0(p, b, training, x, eps=1e-5, momentum=0.1, axis=1):
    axis = axis % x.dim()
    _, var_in = moments(x, others(x, 0, axis))
    _, var = moments(x, others(x, axis))
    if training:
        n = x.numel() // x.shape[axis]
        b["num_batches_tracked"] = b["num_batches_tracked"] + 1
        move(b, momentum, running_var=var * n / (n - 1))
    else:
        var = channels(b["running_var"], x, axis)
    d = torch.maximum(torch.sqrt(var + eps), channels(p["v"], x, axis) * x + torch.sqrt(var_in + eps))
    return x / d * channels(p["weight"], x, axis) + channels(p["bias"], x, axis)


def evo_s0(p, _b, _training, x, groups, eps=1e-5, axis=1):
    moved = x.movedim(axis, 1)
    grouped = moved.reshape(x.shape[0], groups, -1)
    _, var = moments(grouped, [2])
    std = torch.sqrt(var + eps).expand_as(grouped).reshape(moved.shape).movedim(1, axis)
    y = x * torch.sigmoid(channels(p["v"], x, axis % x.dim()) * x) / std
    return y * channels(p["weight"], x, axis % x.dim()) + channels(p["bias"], x, axis % x.dim())


for shape, options in [((3, 4, 5), {}), ((2, 3, 2, 4), {"axis": -1, "momentum": 0.25, "eps": 0.01})]:
    axis = options.get("axis", 1)
    c = shape[axis]
    p = {"weight": exact(c), "bias": exact(c), "v": exact(c, mean=0.5)}
    b = {"running_var": torch.ones(c), "num_batches_tracked": torch.tensor(0)}
    first = by_name(b)
    arguments = {k: v for k, v in options.items()}
    formula = lambda *a: evo_b0(*a, **arguments)
    calls = [(training, [exact(*shape, mean=0.25)]) for training in (True, True, False)]
    cases.append(case("EvoNormB0", [c], options, p, b, follow(formula, p, b, calls), first))

for shape, options in [((3, 4, 5), {"groups": 2}), ((2, 3, 2, 6), {"axis": -1, "groups": 3, "eps": 0.01})]:
    c = shape[options.get("axis", 1)]
    p = {"weight": exact(c), "bias": exact(c), "v": exact(c, mean=0.5)}
    formula = lambda *a: evo_s0(*a, **options)
    calls = [(True, [exact(*shape, mean=0.25)])]
    cases.append(case("EvoNormS0", [c], options, p, {}, follow(formula, p, {}, calls), {}))


# Shen et al. 2020, algorithms 1 and 2, for x as [m, C]; in the warm-up PN-V.
def power(p, s, training, x, dy, eps=1e-5, alpha_fwd=0.9, alpha_bkw=0.9, warmup=10000):
    m = x.shape[0]
    batch = (x * x).mean(0)
    warm = training and s["iters"] < warmup
    psi = np.sqrt((batch if warm else s["phi"]) + eps)
    xhat = x / psi
    y = p["weight"] * xhat + p["bias"]
    g = p["weight"] * dy
    along = (g * xhat).mean(0)
    if not training:
        dx = g / psi
    elif warm:
        dx = (g - xhat * along) / psi
    else:
        dx = (g - s["nu"] * xhat) / psi
    if training:
        s["iters"] += 1
        w = 1 / s["iters"] if warm else 1 - alpha_fwd
        s["phi"] = (1 - w) * s["phi"] + w * batch
        s["nu"] = s["nu"] * (1 - (1 - alpha_bkw) * (xhat * xhat).mean(0)) + (1 - alpha_bkw) * along
    return y, dx, (dy * xhat).sum(0), dy.sum(0)


for shape, options in [
    ((5, 3), {"warmupIters": 1}),
    ((2, 3, 4), {"warmupIters": 2, "alphaFwd": 0.75, "alphaBkw": 0.5, "axis": -1}),
    ((2, 3, 5), {"warmupIters": 0, "eps": 0.01}),
]:
    axis = options.get("axis", 1) % len(shape)
    c = shape[axis]
    p = {"weight": exact(c).numpy(), "bias": exact(c).numpy()}
    s = {"iters": 0, "phi": np.ones(c), "nu": np.zeros(c)}
    alpha = options.get("alphaBkw", 0.9)
    state = lambda: {
        "running_phi": torch.tensor(s["phi"]),
        "ema_gz": torch.tensor(s["nu"] / (1 - alpha)),
        "iters": torch.tensor(s["iters"]),
    }
    first = by_name(state())
    names = {"eps": "eps", "alphaFwd": "alpha_fwd", "alphaBkw": "alpha_bkw", "warmupIters": "warmup"}
    arguments = {names[k]: v for k, v in options.items() if k in names}
    steps = []
    for training in (True, True, True, True, False):
        x, dy = exact(*shape, mean=0.25), exact(*shape)
        moved = x.movedim(axis, -1)
        flat = lambda t: t.movedim(axis, -1).reshape(-1, c).numpy()
        back = lambda a: torch.tensor(a).reshape(moved.shape).movedim(-1, axis)
        y, dx, dw, db = power(p, s, training, flat(x), flat(dy), **arguments)
        steps.append(step(training, [x], dy, back(y), [back(dx)], {"weight": dw, "bias": db}, state()))
    cases.append(case("PowerNorm", [c], options, p, {}, steps, first))


# Kingma & Dhariwal 2018, section 3.1, in the form of its code: y = s (x + b).
def act(p, _b, _training, x, linear=False):
    s = p["weight"] if linear else torch.exp(p["weight"])
    return channels(s, x, 1) * (x + channels(p["bias"], x, 1))


for shape, options in [((3, 4, 5), {}), ((3, 2, 2, 2), {"scale": "linear"})]:
    c = shape[1]
    linear = "scale" in options
    x = exact(*shape, mean=2, std=3)
    mean, var = moments(x, others(x, 1))
    s = (1 / (torch.sqrt(var) + 1e-6)).reshape(-1)
    start = {"weight": torch.ones(c) if linear else torch.zeros(c), "bias": torch.zeros(c)}
    p = {"weight": s if linear else torch.log(s), "bias": -mean.reshape(-1)}
    b = {"initialized": torch.tensor(1)}
    formula = lambda *a: act(*a, linear=linear)
    steps = follow(formula, p, b, [(True, [x]), (True, [exact(*shape)]), (False, [exact(*shape)])])
    for one in steps:
        one["state"].update(by_name(p))
    cases.append(case("ActNorm", [c], options, start, {}, steps, by_name({"initialized": torch.tensor(0)})))

write("mixed.json", cases)
