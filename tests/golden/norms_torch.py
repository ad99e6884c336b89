"""Records what PyTorch's normalization layers compute, in float64: tests/golden/norms_torch.json.

Run: python3 tests/golden/norms_torch.py          (torch >= 1.13, on the CPU)

A case holds a layer's name, arguments and options in Evenkeel's names, its first weight and bias, and a list of steps. A
step holds x and dy (random: multiples of 1/64, exact in float32 too) and what came of them: y, dx, and the state after it
(gradients of weight and bias, which accumulate over the steps, and running statistics). The last step is in evaluation.
"""

import json
import pathlib

import torch

SEED = 20240229
SCHEDULE = "max(1/n, 0.4)"  # the test reads this text as that function
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def exact(t):
    return torch.round(t * 64) / 64


def numbers(t):
    return [float("%.15g" % v) for v in t.detach().reshape(-1).tolist()]


class RMSNorm(torch.nn.Module):
    """Zhang & Sennrich 2019, equation 4: y = x / sqrt(mean(x^2) + eps) * g. torch has it only from 2.4 on."""

    def __init__(self, normalized_shape, eps=None, elementwise_affine=True):
        super().__init__()
        self.axes = tuple(range(-len(normalized_shape), 0))
        self.eps = eps
        self.weight = torch.nn.Parameter(torch.ones(normalized_shape)) if elementwise_affine else None

    def forward(self, x):
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        y = x / torch.sqrt((x * x).mean(self.axes, keepdim=True) + eps)
        return y if self.weight is None else y * self.weight


class LayerNorm(torch.nn.LayerNorm):
    """With the option `bias`, which torch has only from 2.1 on."""

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True):
        super().__init__(normalized_shape, eps=eps, elementwise_affine=elementwise_affine)
        if not bias:
            self.bias = None


class Axis(torch.nn.Module):
    """Any channel axis, by moving it to where torch expects it."""

    def __init__(self, inner, axis):
        super().__init__()
        self.inner = inner
        self.axis = axis

    def forward(self, x):
        return self.inner(x.movedim(self.axis, 1).contiguous()).movedim(1, self.axis)


LAYERS = {"RMSNorm": RMSNorm, "LayerNorm": LayerNorm}
BATCH_NORM_BY_RANK = {2: "BatchNorm1d", 4: "BatchNorm2d"}
TORCH_OPTIONS = {
    "eps": "eps",
    "momentum": "momentum",
    "affine": "affine",
    "elementwiseAffine": "elementwise_affine",
    "bias": "bias",
    "trackRunningStats": "track_running_stats",
}


def record(layer, args, shape, training_steps, options):
    name = BATCH_NORM_BY_RANK[len(shape)] if layer == "BatchNorm" else layer
    torch_options = {TORCH_OPTIONS[k]: v for k, v in options.items() if k != "axis"}
    momentum = options.get("momentum", 0.1)
    # torch counts batches in batch normalization only, and takes no schedule: those weights are set before each step.
    by_hand = momentum == SCHEDULE or (momentum is None and layer.startswith("InstanceNorm"))
    if by_hand:
        torch_options.pop("momentum")
    module = LAYERS.get(name, getattr(torch.nn, name, None))(*args, **torch_options)
    run = Axis(module, options["axis"]) if "axis" in options else module

    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    with torch.no_grad():
        if weight is not None:
            weight.copy_(exact(1 + 0.5 * torch.randn(weight.shape)))
        if bias is not None:
            bias.copy_(exact(torch.randn(bias.shape)))

    case = {
        "layer": layer,
        "args": args,
        "options": options,
        "weight": None if weight is None else numbers(weight),
        "bias": None if bias is None else numbers(bias),
        "steps": [],
    }
    for step in range(training_steps + 1):
        module.train(step < training_steps)
        if by_hand:
            n = step + 1
            module.momentum = 1 / n if momentum is None else max(1 / n, 0.4)
        # The first input lies about three standard deviations from 0, the others nearer.
        centre = 3.0 if step == 0 else 0.7 * torch.randn(()).item()
        spread = 1.0 if step == 0 else 0.5 + torch.rand(()).item()
        x = exact(centre + spread * torch.randn(shape)).requires_grad_()
        dy = exact(torch.randn(shape))
        y = run(x)
        y.backward(dy)
        made = {
            "shape": list(shape),
            "training": module.training,
            "x": numbers(x),
            "dy": numbers(dy),
            "y": numbers(y),
            "dx": numbers(x.grad),
        }
        if weight is not None:
            made["weightGrad"] = numbers(weight.grad)
        if bias is not None:
            made["biasGrad"] = numbers(bias.grad)
        if getattr(module, "running_mean", None) is not None:
            made["runningMean"] = numbers(module.running_mean)
            made["runningVar"] = numbers(module.running_var)
            if layer.startswith("BatchNorm"):
                made["numBatchesTracked"] = int(module.num_batches_tracked)
        case["steps"].append(made)
    return case


def batch_cases():
    each = [
        {},
        {"affine": False},
        {"trackRunningStats": False},
        {"affine": False, "trackRunningStats": False},
        {"momentum": 0.3},
        {"momentum": None},
        {"eps": 0.25},
    ]
    for layer, shape in [
        ("BatchNorm1d", (5, 3)),
        ("BatchNorm1d", (3, 2, 4)),
        ("BatchNorm2d", (2, 3, 2, 3)),
        ("BatchNorm3d", (2, 2, 2, 1, 3)),
    ]:
        for options in each:
            yield layer, [shape[1]], shape, 3, options
    for options in [{"momentum": SCHEDULE}, {"momentum": 0.0}, {"momentum": 1.0}, {"eps": 0.0}]:
        yield "BatchNorm2d", [3], (2, 3, 2, 3), 3, options
    # Channels last, and on an axis that is neither second nor last.
    yield "BatchNorm1d", [3], (2, 4, 3), 2, {"axis": -1}
    yield "BatchNorm2d", [3], (2, 2, 3, 3), 2, {"axis": -1, "momentum": None}
    yield "BatchNorm3d", [2], (2, 2, 1, 3, 2), 2, {"axis": -1, "affine": False}
    yield "BatchNorm", [3], (2, 2, 3, 2), 2, {"axis": 2}
    yield "BatchNorm", [4], (4, 5), 2, {"axis": 0}


def group_cases():
    for groups in [1, 2, 4]:
        for affine in [True, False]:
            yield "GroupNorm", [groups, 4], (2, 4, 2, 3), 1, {"affine": affine}
    yield "GroupNorm", [2, 4], (3, 4, 3), 1, {"eps": 0.25}
    yield "GroupNorm", [2, 6], (4, 6), 1, {}
    yield "GroupNorm", [3, 6], (2, 6, 1, 2, 2), 1, {}
    for groups in [1, 2, 4]:
        yield "GroupNorm", [groups, 4], (2, 2, 3, 4), 1, {"axis": -1}
    yield "GroupNorm", [2, 4], (2, 2, 4, 3), 1, {"axis": 2}
    yield "GroupNorm", [2, 4], (2, 3, 4), 1, {"axis": -1, "affine": False}


def layer_cases():
    for normalized in [(5,), (3, 5), (2, 3, 4)]:
        shape = (2,) + normalized if len(normalized) == 3 else (2, 3, 5)
        for options in [{}, {"elementwiseAffine": False}, {"bias": False}, {"eps": 0.25}]:
            yield "LayerNorm", [list(normalized)], shape, 1, options
        for options in [{}, {"elementwiseAffine": False}, {"eps": 0.25}, {"eps": 1e-3, "elementwiseAffine": False}]:
            yield "RMSNorm", [list(normalized)], shape, 1, options


def instance_cases():
    each = [
        ({}, 1),
        ({"affine": True}, 1),
        ({"eps": 0.25}, 1),
        ({"trackRunningStats": True}, 3),
        ({"affine": True, "trackRunningStats": True}, 3),
        ({"trackRunningStats": True, "momentum": 0.3}, 3),
        ({"trackRunningStats": True, "momentum": None}, 3),
    ]
    for layer, shape in [
        ("InstanceNorm1d", (2, 3, 4)),
        ("InstanceNorm2d", (2, 2, 2, 3)),
        ("InstanceNorm3d", (2, 2, 2, 1, 3)),
    ]:
        for options, steps in each:
            yield layer, [shape[1]], shape, steps, options
        # A lone sample without a batch axis.
        yield layer, [shape[1]], shape[1:], 2, {"affine": True, "trackRunningStats": True}
    yield "InstanceNorm1d", [3], (2, 4, 3), 2, {"axis": -1, "affine": True, "trackRunningStats": True}
    yield "InstanceNorm2d", [3], (2, 2, 3, 3), 2, {"axis": -1, "affine": True, "trackRunningStats": True}
    yield "InstanceNorm2d", [3], (2, 2, 3, 2), 1, {"axis": 2, "affine": True}
    yield "InstanceNorm3d", [2], (2, 2, 1, 3, 2), 2, {"axis": -1, "trackRunningStats": True}


def main():
    torch.manual_seed(SEED)
    every = [*batch_cases(), *group_cases(), *layer_cases(), *instance_cases()]
    cases = [record(*case) for case in every]
    text = json.dumps({"torch": torch.__version__, "seed": SEED, "cases": cases}, separators=(",", ":"))
    out = pathlib.Path(__file__).with_name("norms_torch.json")
    # One case a line keeps a difference between two recordings readable.
    out.write_text(text.replace('{"layer":', '\n{"layer":') + "\n")
    print(f"{out.name}: {len(cases)} cases, {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
