"""Records the conditional normalizations by their papers' formulas: tests/golden/conditional.json.

Run: python3 tests/golden/conditional.py          (torch >= 1.13)

Gradients come from torch's autograd on the plain formulas; convolutions and resizing are torch's own.
"""

import torch
from recording import by_name, case, exact, follow, write

torch.manual_seed(20240502)
F = torch.nn.functional
cases = []


def add(layer, args, options, parameters, buffers, formula, calls):
    first = by_name(buffers)
    cases.append(case(layer, args, options, parameters, buffers, follow(formula, parameters, buffers, calls), first))


def by_sample(t, x, axis=1):
    shape = [1] * x.dim()
    shape[0], shape[axis] = t.shape
    return t.reshape(shape)


def linear(p, name, c):
    return F.linear(c, p[name + ".weight"], p[name + ".bias"])


def linear_parameters(name, out, size):
    return {name + ".weight": exact(out, size), name + ".bias": exact(out)}


def batch(b, prefix, training, x, eps, momentum, axis=1):
    moved = x.movedim(axis, 1)
    mean, var = b[prefix + "running_mean"].clone(), b[prefix + "running_var"].clone()
    y = F.batch_norm(moved, mean, var, None, None, training, momentum, eps)
    if training:
        b[prefix + "running_mean"], b[prefix + "running_var"] = mean, var
        b[prefix + "num_batches_tracked"] = b[prefix + "num_batches_tracked"] + 1
    return y.movedim(1, axis)


def batch_buffers(prefix, c):
    names = ("running_mean", "running_var", "num_batches_tracked")
    return {prefix + n: t for n, t in zip(names, (torch.zeros(c), torch.ones(c), torch.tensor(0)))}


# Dumoulin et al. 2017, equation 5, over batch statistics: a row of gamma and beta for each class.
for shape, options in [((3, 4, 5), {}), ((4, 2, 3), {"axis": -1, "momentum": 0.3, "eps": 0.01})]:
    axis = options.get("axis", 1)
    c = shape[axis]

    def by_class(p, b, training, x, k):
        y = batch(b, "bn.", training, x, options.get("eps", 1e-5), options.get("momentum", 0.1), axis)
        gamma, beta = p["embed.weight"][k.long()].chunk(2, 1)
        return by_sample(gamma, x, axis) * y + by_sample(beta, x, axis)

    k = torch.tensor([2, 0, 2, 1][: shape[0]], dtype=torch.int32)
    calls = [(training, [exact(*shape, mean=0.5), k]) for training in (True, True, False)]
    add("ConditionalBatchNorm", [c, 3], options, {"embed.weight": exact(3, 2 * c)}, batch_buffers("bn.", c), by_class, calls)


# de Vries et al. 2017, equations 3 and 4: gamma = 1 + its prediction.
def by_vector(p, b, training, x, c):
    gamma, beta = linear(p, "fc", c).chunk(2, 1)
    return (1 + by_sample(gamma, x)) * batch(b, "bn.", training, x, 1e-5, 0.1) + by_sample(beta, x)


calls = [(training, [exact(3, 4, 5), exact(3, 2)]) for training in (True, False)]
add("ConditionalBatchNorm", [4, 2], {"condition": "vector"}, linear_parameters("fc", 8, 2), batch_buffers("bn.", 4), by_vector, calls)


# Perez et al. 2018, equation 2.
def film(p, _b, _training, x, c, axis=1):
    gamma, beta = linear(p, "fc", c).chunk(2, 1)
    return (1 + by_sample(gamma, x, axis)) * x + by_sample(beta, x, axis)


add("FiLM", [3, 2], {}, linear_parameters("fc", 6, 2), {}, film, [(True, [exact(2, 3, 2, 3), exact(2, 2)])])
last = lambda *a: film(*a, axis=2)
add("FiLM", [3, 2], {"axis": -1}, linear_parameters("fc", 6, 2), {}, last, [(True, [exact(2, 4, 3), exact(2, 2)])])


# Huang & Belongie 2017, equation 8, and its definitions of mu and sigma (equations 6 and 7).
def statistics(x, eps):
    flat = x.reshape(x.shape[0], x.shape[1], -1)
    mean = flat.mean(2)
    return mean, torch.sqrt(((flat - mean[:, :, None]) ** 2).mean(2) + eps)


def ada_in(_p, _b, _training, x, style, eps=1e-5):
    (mx, sx), (ms, ss) = statistics(x, eps), statistics(style, eps)
    return by_sample(ss, x) * (x - by_sample(mx, x)) / by_sample(sx, x) + by_sample(ms, x)


add("F.adaIN", [], {}, {}, {}, ada_in, [(True, [exact(2, 3, 7), exact(2, 3, 5, mean=2)])])
coarse = lambda *a: ada_in(*a, eps=0.01)
add("F.adaIN", [], {"eps": 0.01}, {}, {}, coarse, [(True, [exact(2, 3, 2, 3), exact(2, 3, 3, 2)])])


def ada_in_layer(p, _b, _training, x, c):
    mean, std = statistics(x, 1e-5)
    gamma, beta = linear(p, "fc", c).chunk(2, 1)
    return (1 + by_sample(gamma, x)) * (x - by_sample(mean, x)) / by_sample(std, x) + by_sample(beta, x)


add("AdaIN", [3, 2], {}, linear_parameters("fc", 6, 2), {}, ada_in_layer, [(True, [exact(2, 3, 7), exact(2, 2)])])


# Park et al. 2019, equation 1 and figure 10 of its appendix.
def spade(p, b, training, x, m, base):
    prefix = "param_free_norm."
    y = batch(b, prefix, training, x, 1e-5, 0.1) if base == "batch" else F.instance_norm(x, eps=1e-5)
    k = p["mlp_gamma.weight"].shape[-1] // 2
    conv = lambda name, t: F.conv2d(t, p[name + ".weight"], p[name + ".bias"], padding=k)
    shared = torch.relu(conv("mlp_shared.0", F.interpolate(m, size=x.shape[2:], mode="nearest")))
    return y * (1 + conv("mlp_gamma", shared)) + conv("mlp_beta", shared)


for base, size, space, buffers in [
    ("batch", 3, (4, 6), batch_buffers("param_free_norm.", 2)),
    ("instance", 1, (3, 5), {}),
]:
    p = {}
    for name, out, width in [("mlp_shared.0", 3, 2), ("mlp_gamma", 2, 3), ("mlp_beta", 2, 3)]:
        p[name + ".weight"], p[name + ".bias"] = exact(out, width, size, size), exact(out)
    calls = [(training, [exact(2, 2, *space), exact(2, 2, 2, 3)]) for training in (True, False)]
    options = {"hidden": 3, "base": base, "kernelSize": size}
    add("SPADE", [2, 2], options, p, buffers, lambda *a: spade(*a, base), calls)


# Peebles & Xie 2023, section 3.2; shift, scale and gate in the order of its code.
def ada_ln(p, _b, _training, x, c, silu=True, gate=False):
    maps = linear(p, "linear", F.silu(c) if silu else c).chunk(3 if gate else 2, 1)
    between = [x.shape[0]] + [1] * (x.dim() - 2) + [-1]
    shift, scale, *e = [t.reshape(between) for t in maps]
    y = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
    return x + e[0] * y if gate else y


add("AdaLN", [4, 2], {}, linear_parameters("linear", 8, 2), {}, ada_ln, [(True, [exact(2, 3, 4), exact(2, 2)])])
plain = lambda *a: ada_ln(*a, silu=False)
add("AdaLN", [4, 2], {"silu": False}, linear_parameters("linear", 8, 2), {}, plain, [(True, [exact(3, 4), exact(3, 2)])])
gated = lambda *a: ada_ln(*a, gate=True)
add("AdaLNZero", [4, 2], {}, linear_parameters("linear", 12, 2), {}, gated, [(True, [exact(2, 3, 4), exact(2, 2)])])

write("conditional.json", cases)
