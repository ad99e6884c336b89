"""Records the light normalization layers in float64: tests/golden/light.json.

Run: python3 tests/golden/light.py          (torch >= 1.13, on the CPU)

torch computes what it has (LocalResponseNorm, functional.normalize, layer_norm); the others are the formulas of their
papers, written out below, with gradients by torch's autograd. A case holds a layer's name, arguments and options in
Evenkeel's names, its parameters by name, x and dy (random multiples of 1/64, exact in float32 too), and what came of
them: y, dx, and the gradients of the parameters.
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F

SEED = 20251121
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def exact(t):
    return torch.round(t * 64) / 64


def numbers(t):
    return [float("%.15g" % v) for v in t.detach().reshape(-1).tolist()]


def per_channel(p, x, axis):
    """[C] as a shape that broadcasts along `axis` of x."""
    shape = [1] * x.dim()
    shape[axis] = -1
    return p.reshape(shape)


def space(x, axis):
    """The axes behind the batch that are not the channels."""
    return [a for a in range(1, x.dim()) if a != axis % x.dim()]


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0, divide="size", lean="left", axis=1):
    if divide == "size" and lean == "left" and axis == 1 and x.dim() > 2:
        return torch.nn.LocalResponseNorm(size, alpha, beta, k)(x)
    moved = x.movedim(axis, -1)
    before = size // 2 if lean == "left" else (size - 1) // 2
    outs = []
    n = moved.shape[-1]
    for c in range(n):
        window = moved[..., max(0, c - before) : min(n, c - before + size)]
        total = (window * window).sum(-1)
        outs.append(moved[..., c] / (k + (alpha / size if divide == "size" else alpha) * total) ** beta)
    return torch.stack(outs, -1).movedim(-1, axis)


def map_lrn(x, size, alpha=1e-4, beta=0.75, k=1.0, divide="size", lean="left"):
    d = x.dim() - 2
    before = size // 2 if lean == "left" else (size - 1) // 2
    padded = F.pad(x * x, [before, size - 1 - before] * d)
    for axis in range(2, 2 + d):
        padded = padded.unfold(axis, size, 1).sum(-1)
    return x / (k + (alpha / size**d if divide == "size" else alpha) * padded) ** beta


def mean_variance_norm(x, axes=(0, 2, 3), eps=1e-9):
    axes = [axes] if isinstance(axes, int) else list(axes)
    mu = x.mean(axes, keepdim=True)
    sigma = ((x - mu) ** 2).mean(axes, keepdim=True).sqrt()
    return (x - mu) / (sigma + eps)


def unit_norm(x, dim=-1, eps=1e-12):
    return x / (x * x).sum(dim, keepdim=True).sqrt().clamp_min(eps)


def scale_norm(x, _start, scale, eps=1e-5):
    return scale * x / x.norm(dim=-1, keepdim=True).clamp_min(eps)


def filter_response_norm(x, _channels, weight, bias, eps=1e-6, learnableEps=False, axis=1):
    nu2 = (x * x).mean(space(x, axis), keepdim=True)
    eps = eps if torch.is_tensor(eps) else torch.tensor(eps)
    return per_channel(weight, x, axis) * x / torch.sqrt(nu2 + eps.abs()) + per_channel(bias, x, axis)


def tlu(x, _channels, tau, axis=1):
    # torch.maximum would share the gradient of a tie; here tau takes it.
    tau = per_channel(tau, x, axis)
    return torch.where(x > tau, x, tau)


def grn(x, _channels, gamma, beta, eps=1e-6, axis=1):
    g = torch.sqrt((x * x).sum(space(x, axis), keepdim=True))
    n = g / (g.mean(axis, keepdim=True) + eps)
    return per_channel(gamma, x, axis) * (x * n) + per_channel(beta, x, axis) + x


def layer_norm_2d(x, channels, weight=None, bias=None, eps=1e-6, elementwiseAffine=True, **_):
    return F.layer_norm(x.permute(0, 2, 3, 1), [channels], weight, bias, eps).permute(0, 3, 1, 2)


def dyt(x, _shape, alpha, weight=None, bias=None, **_):
    y = torch.tanh(alpha * x)
    return y if weight is None else y * weight + bias


def derf(x, _shape, alpha, shift, weight=None, bias=None, **_):
    y = torch.erf(alpha * x + shift)
    return y if weight is None else y * weight + bias


FORMULAS = {
    "normalize": lambda x, **o: F.normalize(x, **{**o, "p": math.inf if o.get("p") == "Infinity" else o.get("p", 2.0)}),
    "LocalResponseNorm": local_response_norm,
    "MapLRN": map_lrn,
    "MeanVarianceNorm": mean_variance_norm,
    "UnitNorm": unit_norm,
    "ScaleNorm": scale_norm,
    "FilterResponseNorm": filter_response_norm,
    "TLU": tlu,
    "GRN": grn,
    "LayerNorm2d": layer_norm_2d,
    "DyT": dyt,
    "Derf": derf,
}


def record(layer, args, shape, options, **sizes):
    """`sizes` are the shapes of the parameters; alpha is drawn near 0.5."""
    params = {}
    for name, size in sizes.items():
        start = 0.75 if name in ("alpha", "eps") else 0.0
        params[name] = exact(start + (0.25 if start else 1.0) * torch.randn(size)).requires_grad_()
    x = exact(0.5 + torch.randn(shape)).requires_grad_()
    dy = exact(torch.randn(shape))
    y = FORMULAS[layer](x, *args, **{**options, **params})
    y.backward(dy)
    return {
        "layer": layer,
        "args": args,
        "options": options,
        "shape": list(shape),
        "params": {name: numbers(p) for name, p in params.items()},
        "x": numbers(x),
        "dy": numbers(dy),
        "y": numbers(y),
        "dx": numbers(x.grad),
        "grads": {name: numbers(p.grad) for name, p in params.items()},
    }


def cases():
    for p in [0.5, 1.0, 2.0, 3.0, "Infinity"]:
        yield "normalize", [], (2, 4, 3), {"p": p}, {}
        yield "normalize", [], (3, 4), {"p": p, "dim": -1, "eps": 1.5}, {}
    yield "normalize", [], (2, 3, 4), {"p": 2.0, "dim": [0, 2]}, {}
    for size in [1, 2, 3, 5, 9]:
        yield "LocalResponseNorm", [size], (2, 7, 3), {"alpha": 0.5}, {}
    yield "LocalResponseNorm", [5], (2, 7, 2, 3), {}, {}
    yield "LocalResponseNorm", [4], (2, 7, 3), {"alpha": 0.5, "beta": 0.5, "k": 2.0}, {}
    yield "LocalResponseNorm", [4], (2, 7, 3), {"alpha": 0.5, "beta": 1.3, "lean": "right"}, {}
    yield "LocalResponseNorm", [4], (3, 7), {"alpha": 0.5, "axis": -1}, {}
    yield "LocalResponseNorm", [3], (2, 5, 4), {"alpha": 0.5, "axis": 2, "divide": "none", "beta": 1.0}, {}
    for shape in [(2, 3, 7), (2, 2, 4, 5), (1, 2, 3, 4, 3)]:
        yield "MapLRN", [3], shape, {"alpha": 0.5}, {}
        yield "MapLRN", [2], shape, {"alpha": 0.5, "lean": "right", "divide": "none"}, {}
    yield "MapLRN", [4], (2, 2, 4, 5), {"alpha": 0.5, "k": 2.0}, {}
    yield "MeanVarianceNorm", [], (3, 4, 2, 3), {}, {}
    for axes in [[1], [0], [1, 3], [2, 3], [0, 1, 2, 3], -1]:
        yield "MeanVarianceNorm", [], (3, 2, 2, 3), {"axes": axes, "eps": 0.25}, {}
    for dim in [-1, 1, [0, 2]]:
        yield "UnitNorm", [dim], (2, 4, 3), {}, {}
    yield "UnitNorm", [1], (5, 3), {"eps": 2.0}, {}
    yield "ScaleNorm", [2.0], (3, 2, 5), {}, {"scale": []}
    yield "ScaleNorm", [2.0], (5, 4), {"eps": 2.0}, {"scale": []}
    for shape, axis in [((3, 4, 5), 1), ((2, 4, 1, 3), 1), ((2, 3, 2, 4), -1), ((2, 3, 4, 2), 2)]:
        affine = {"weight": [4], "bias": [4]}
        yield "FilterResponseNorm", [4], shape, {"axis": axis}, affine
        yield "FilterResponseNorm", [4], shape, {"axis": axis, "learnableEps": True}, {**affine, "eps": [1]}
        yield "TLU", [4], shape, {"axis": axis}, {"tau": [4]}
        yield "GRN", [4], shape, {"axis": axis}, {"gamma": [4], "beta": [4]}
    yield "GRN", [4], (2, 4, 3), {"eps": 0.25}, {"gamma": [4], "beta": [4]}
    yield "LayerNorm2d", [5], (2, 5, 2, 3), {}, {"weight": [5], "bias": [5]}
    yield "LayerNorm2d", [4], (2, 4, 2, 3), {"eps": 0.25, "elementwiseAffine": False}, {}
    for layer, extra in [("DyT", {}), ("Derf", {"shift": [1]})]:
        yield layer, [5], (3, 2, 5), {}, {"alpha": [1], "weight": [5], "bias": [5], **extra}
        yield layer, [[2, 5]], (3, 2, 5), {}, {"alpha": [1], "weight": [2, 5], "bias": [2, 5], **extra}
        yield layer, [5], (4, 5), {"affine": False}, {"alpha": [1], **extra}


def main():
    torch.manual_seed(SEED)
    made = [record(*case[:4], **case[4]) for case in cases()]
    text = json.dumps({"torch": torch.__version__, "seed": SEED, "cases": made}, separators=(",", ":"))
    out = pathlib.Path(__file__).with_name("light.json")
    # One case a line keeps a difference between two recordings readable.
    out.write_text(text.replace('{"layer":', '\n{"layer":') + "\n")
    print(f"{out.name}: {len(made)} cases, {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
