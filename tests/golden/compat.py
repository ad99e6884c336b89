"""Other systems' normalization layers by their plain formulas, in float64; gradients by torch's autograd.

Run: python3 tests/golden/compat.py > tests/golden/compat.json. Inputs and first parameters come from `numbers`, which
the test repeats; only results are recorded.
"""

import json
import sys

import torch

torch.set_default_dtype(torch.float64)


def numbers(shape, seed, count=257, shift=-2.0):
    """Multiples of 1/64, exact in float32 too."""
    n = 1
    for d in shape:
        n *= d
    i = torch.arange(n, dtype=torch.int64)
    v = (i * i * 31 + i * 7919 + seed * 104729) % 1009 % count
    return (v.double() / 64 + shift).reshape(shape)


def flat(t):
    return [float(f"{v:.13g}") for v in t.detach().reshape(-1).tolist()]


def at(v, axis, rank):
    shape = [1] * rank
    shape[axis] = v.numel()
    return v.reshape(shape)


def case(system, layer, options, shape, forward, names, sizes, steps, stats=None, scale_grads=1.0):
    """names: the two parameters' names; sizes: their shapes; stats: names and values of running statistics."""
    params = [numbers(s, 3 + k, 65, 0.5 - k).requires_grad_() for k, s in enumerate(sizes)]
    stats = dict(stats or {})
    out = []
    for k, training in enumerate(steps):
        x = (numbers(shape, 10 + k) + 0.5 * k).requires_grad_()
        dy = numbers(shape, 50 + k)
        y = forward(x, params, stats, training, k + 1)
        y.backward(dy)
        step = {"training": training, "y": flat(y), "dx": flat(x.grad)}
        # Read before the next step adds to them.
        step["grads"] = [flat(p.grad * scale_grads) for p in params]
        step["stats"] = {name: flat(v) for name, v in stats.items()}
        out.append(step)
    cases.append(
        {"system": system, "layer": layer, "options": options, "shape": shape, "names": names,
         "sizes": sizes, "steps": out}
    )


cases = []


def moments(x, axes, unbiased):
    mean = x.mean(axes, keepdim=True)
    m2 = ((x - mean) ** 2).sum(axes, keepdim=True)
    n = x.numel() // mean.numel()
    return mean, m2 / (n - 1 if unbiased else n)


def batch(axes, eps, old, normal, runs, spread):
    """old: weight of the old statistics, by step; spread: parameters to x's rank."""

    def forward(x, params, stats, training, n):
        mean_name, var_name = list(stats)
        if training:
            mean, var = moments(x, axes, normal)
            with torch.no_grad():
                _, running = moments(x, axes, runs)
                a = old(n)
                stats[mean_name] = a * stats[mean_name] + (1 - a) * mean.reshape(stats[mean_name].shape)
                stats[var_name] = a * stats[var_name] + (1 - a) * running.reshape(stats[var_name].shape)
        else:
            like = x.mean(axes, keepdim=True).shape
            mean, var = stats[mean_name].reshape(like), stats[var_name].reshape(like)
        gamma, beta = [spread(p) for p in params]
        return gamma * (x - mean) / torch.sqrt(var + eps) + beta

    return forward


def running(names, shape):
    return {names[0]: torch.zeros(shape), names[1]: torch.ones(shape)}


# At least three values to a statistic: with two, dx is what is left of a cancellation, in this script's autograd too.
shapes = [[5, 4], [4, 3, 3], [3, 2, 3, 2], [3, 2, 2, 1, 2]]

for shape, patience in zip(shapes, [0.9, 0.5, 0.25, 0.9]):
    f = shape[1:]
    case("dll", "BatchNorm", {"patience": patience}, shape,
         batch([0], 1e-6, lambda n, a=patience: a, True, True, lambda p: p),
         ["gamma", "beta"], [f, f], [True, True, False, True],
         running(["runningMean", "runningVar"], f), 1 / shape[0])


def grouped(groups, eps, position, last, spread):
    """Channels on axis 1 or last; statistics over a group's channels, with `position` at each position alone."""

    def forward(x, params, _stats, _training, _n):
        v = x.movedim(-1, 1) if last else x
        g = v.reshape([v.shape[0], groups, v.shape[1] // groups, -1])
        mean, var = moments(g, [2] if position else [2, 3], False)
        xhat = ((g - mean) / torch.sqrt(var + eps)).reshape(v.shape)
        xhat = xhat.movedim(1, -1) if last else xhat
        gamma, beta = [spread(p) for p in params]
        return gamma * xhat + beta

    return forward


for shape, groups in zip([[3, 6], [2, 6, 3], [2, 9, 2, 1], [2, 4, 2, 1, 2]], [2, 2, 3, 1]):
    f = shape[1:]
    layer, options = ("GroupNorm", {"numGroups": groups}) if groups > 1 else ("LayerNorm", {})
    case("dll", layer, options, shape, grouped(groups, 1e-6, True, False, lambda p: p),
         ["gamma", "beta"], [f, f], [True, False], None, 1 / shape[0])
case("dll", "InstanceNorm", {}, [2, 3, 4], grouped(3, 1e-6, True, False, lambda p: p),
     ["gamma", "beta"], [[3, 4], [3, 4]], [True], None, 1 / 2)

for shape, axis, momentum in [([5, 4], 0, 0.9), ([4, 3, 3], 0, 0.5), ([3, 2, 3, 2], 0, 0.9), ([5, 4], 1, 0.9),
                              ([3, 2, 3, 2], 1, 0.25), ([4, 3, 3], -1, 0.9), ([2, 2, 2, 2, 3], 1, 0.9)]:
    rank = len(shape)
    a = axis % rank
    axes = [0] if a == 0 else [i for i in range(rank) if i != a]
    size = [shape[-1] if a == 0 else shape[a]]
    spread = (lambda p: p) if a == 0 else (lambda p, a=a, rank=rank: at(p, a, rank))
    case("npdl", "BatchNormal", {"axis": axis, "momentum": momentum}, shape,
         batch(axes, 1e-6, lambda n, m=momentum: m, False, False, spread),
         ["gamma", "beta"], [size, size], [True, True, False],
         running(["runningMean", "runningVar"], shape[1:] if a == 0 else size))

for shape, init, least in [([5, 4], 1.0, 0.1), ([4, 3, 3], 1.0, 0.4), ([3, 2, 3, 2], 0.5, 0.2),
                           ([2, 2, 2, 2, 3], 1.0, 0.1)]:
    rank = len(shape)
    layer = ["BatchNorm", "BatchNorm1D", "BatchNorm2D", "BatchNorm3D"][rank - 2]
    axes = [i for i in range(rank) if i != 1]
    c = [shape[1]]
    case("puzzlelib", layer, {"initFactor": init, "minFactor": least}, shape,
         batch(axes, 1e-5, lambda n, i=init, m=least: 1 - max(i / n, m), False, True,
               lambda p, rank=rank: at(p, 1, rank)),
         ["scale", "bias"], [c, c], [True, True, True, False], running(["mean", "var"], c))

for shape, axis, momentum in [([5, 4], -1, 0.99), ([4, 3, 3], -1, 0.75), ([3, 2, 3, 2], 1, 0.5)]:
    rank = len(shape)
    a = axis % rank
    axes = [i for i in range(rank) if i != a]
    c = [shape[a]]
    spread = lambda p, a=a, rank=rank: at(p, a, rank)
    case("keras", "BatchNormalization", {"axis": axis, "momentum": momentum}, shape,
         batch(axes, 1e-3, lambda n, m=momentum: m, False, False, spread),
         ["gamma", "beta"], [c, c], [True, True, False], running(["movingMean", "movingVariance"], c))
    case("flax", "BatchNorm", {"axis": axis, "momentum": momentum}, shape,
         batch(axes, 1e-5, lambda n, m=momentum: m, False, False, spread),
         ["scale", "bias"], [c, c], [True, False], running(["mean", "var"], c))


def over(axes, eps):
    def forward(x, params, _stats, _training, _n):
        mean, var = moments(x, axes, False)
        shape = [d if i in [a % x.dim() for a in axes] else 1 for i, d in enumerate(x.shape)]
        gamma, beta = [p.reshape(shape) for p in params]
        return gamma * (x - mean) / torch.sqrt(var + eps) + beta

    return forward


for shape, axes in [([3, 4], -1), ([2, 3, 4], [1, 2]), ([2, 3, 4], 1), ([2, 3, 2, 3], [1, 3])]:
    each = axes if isinstance(axes, list) else [axes]
    f = [shape[a] for a in each]
    case("keras", "LayerNormalization", {"axis": axes}, shape, over(each, 1e-3), ["gamma", "beta"], [f, f], [True])
    case("flax", "LayerNorm", {"reductionAxes": axes}, shape, over(each, 1e-6), ["scale", "bias"], [f, f], [True])

for shape, groups in [([3, 6], 2), ([2, 3, 4], 2), ([2, 2, 3, 4], 4)]:
    c = [shape[-1]]
    case("keras", "GroupNormalization", {"groups": groups}, shape, grouped(groups, 1e-3, False, True, lambda p: p),
         ["gamma", "beta"], [c, c], [True])
    case("flax", "GroupNorm", {"numGroups": None, "groupSize": shape[-1] // groups}, shape,
         grouped(groups, 1e-6, False, True, lambda p: p), ["scale", "bias"], [c, c], [True])
case("keras", "GroupNormalization", {"groups": -1}, [2, 3, 4], grouped(4, 1e-3, False, True, lambda p: p),
     ["gamma", "beta"], [[4], [4]], [True])
case("keras", "GroupNormalization", {"groups": 2, "axis": 1}, [2, 4, 3],
     grouped(2, 1e-3, False, False, lambda p: at(p, 1, 3)), ["gamma", "beta"], [[4], [4]], [True])
case("flax", "InstanceNorm", {}, [2, 3, 4], grouped(4, 1e-6, False, True, lambda p: p),
     ["scale", "bias"], [[4], [4]], [True])


def rms(eps):
    return lambda x, params, _s, _t, _n: params[0] * x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)


case("keras", "RMSNormalization", {}, [2, 3, 4], rms(1e-6), ["scale"], [[4]], [True])
case("flax", "RMSNorm", {}, [2, 3, 4], rms(1e-6), ["scale"], [[4]], [True])
case("keras", "UnitNormalization", {}, [2, 3, 4],
     lambda x, _p, _s, _t, _n: x / torch.sqrt((x * x).sum(-1, keepdim=True).clamp(min=1e-12)), [], [], [True])

json.dump({"cases": cases}, sys.stdout, separators=(",", ":"))
