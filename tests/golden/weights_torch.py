"""Records weight_norm and spectral_norm of PyTorch and weight standardization by its formula: weights_torch.json.

Run: python3 tests/golden/weights_torch.py          (torch >= 1.13, on the CPU, in float64)

A case holds a layer with its arguments and options in Evenkeel's names, the parametrization with its options, the state
before (multiples of 1/64, exact in float32 too, u and v of spectral_norm to float32's 24 bits), and steps: x, dy, and what
came of them: y, dx, the gradients by state name, which accumulate, and for spectral_norm u and v after it. Every step but
the last is in training.
"""

import json
import pathlib

import torch
from torch.nn.utils import spectral_norm, weight_norm

SEED = 20240301
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

NAMES = {"stride": "stride", "padding": "padding", "groups": "groups", "bias": "bias"}


def exact(t):
    return torch.round(t * 64) / 64


def numbers(t):
    return [float("%.15g" % v) for v in t.detach().reshape(-1).tolist()]


class Standardized(torch.nn.Module):
    """w' = gain (w - mean) / sqrt(var + eps) for each output channel, biased variance: the plain formula."""

    def __init__(self, layer, dim, eps=1e-5, gain=False):
        super().__init__()
        self.layer, self.dim, self.eps = layer, dim, eps
        self.weight, self.bias = layer.weight, layer.bias
        del layer.weight
        layer.weight = None
        if gain:
            self.weight_gain = torch.nn.Parameter(torch.ones(self.weight.shape[dim]))
        self.gain = gain

    def forward(self, x):
        w = self.weight
        axes = [a for a in range(w.dim()) if a != self.dim]
        centred = w - w.mean(axes, keepdim=True)
        out = centred / torch.sqrt((centred**2).mean(axes, keepdim=True) + self.eps)
        if self.gain:
            shape = [1] * w.dim()
            shape[self.dim] = -1
            out = out * self.weight_gain.reshape(shape)
        self.layer.weight = out
        return self.layer(x)


def parametrized(module, kind, options):
    if kind == "weightNorm":
        return weight_norm(module, dim=options.get("dim", 0))
    if kind == "spectralNorm":
        return spectral_norm(module, n_power_iterations=options.get("nPowerIterations", 1), dim=options.get("dim"))
    transposed = isinstance(module, torch.nn.modules.conv._ConvTransposeNd)
    return Standardized(module, options.get("dim", 1 if transposed else 0), options.get("eps", 1e-5), options.get("gain", False))


def record(layer, args, options, kind, how, shape, training_steps):
    torch_options = {NAMES[k]: v for k, v in options.items()}
    module = parametrized(getattr(torch.nn, layer)(*args, **torch_options), kind, how)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(exact(torch.randn(p.shape) + (1.5 if name in ("weight_g", "weight_gain") else 0.25)))
        for name, b in module.named_buffers():
            b.copy_((b + 0.3 * torch.randn(b.shape)).float())
            b.copy_((b / b.norm()).float())
    case = {
        "layer": layer,
        "args": args,
        "options": options,
        "kind": kind,
        "how": how,
        "state": {n: {"shape": list(t.shape), "data": numbers(t)} for n, t in module.state_dict().items() if "layer." not in n},
        "steps": [],
    }
    for step in range(training_steps + 1):
        module.train(step < training_steps)
        x = exact(torch.randn(shape)).requires_grad_()
        y = module(x)
        dy = exact(torch.randn(y.shape))
        y.backward(dy)
        case["steps"].append(
            {
                "training": module.training,
                "shape": list(shape),
                "x": numbers(x),
                "yShape": list(y.shape),
                "dy": numbers(dy),
                "y": numbers(y),
                "dx": numbers(x.grad),
                "grads": {n: numbers(p.grad) for n, p in module.named_parameters() if "layer." not in n},
                "buffers": {n: numbers(b) for n, b in module.named_buffers()},
            }
        )
    return case


LAYERS = [
    ("Linear", [5, 3], {}, (3, 5)),
    ("Conv1d", [2, 3, 3], {"padding": 1}, (2, 2, 3)),
    ("Conv2d", [4, 2, 2], {"groups": 2, "bias": False}, (1, 4, 3, 2)),
    ("ConvTranspose2d", [2, 3, 2], {"stride": 2}, (1, 2, 2, 1)),
]


def cases():
    for layer, args, options, shape in LAYERS:
        for dim in [{}, {"dim": 1}, {"dim": None}]:
            yield layer, args, options, "weightNorm", dim, shape, 1
        for how in [{}, {"nPowerIterations": 3}, {"dim": 1}]:
            yield layer, args, options, "spectralNorm", how, shape, 2
        for how in [{}, {"gain": True}, {"eps": 0.25, "dim": 1}]:
            yield layer, args, options, "weightStandardization", how, shape, 1


def main():
    torch.manual_seed(SEED)
    recorded = [record(*case) for case in cases()]
    text = json.dumps({"torch": torch.__version__, "seed": SEED, "cases": recorded}, separators=(",", ":"))
    out = pathlib.Path(__file__).with_name("weights_torch.json")
    out.write_text(text.replace('{"layer":', '\n{"layer":') + "\n")
    print(f"{out.name}: {len(recorded)} cases, {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
