"""What mixed.py and conditional.py share: exact random numbers, and cases written as JSON."""

import json
import pathlib

import torch

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def exact(*shape, mean=0.0, std=1.0):
    """Random multiples of 1/64, exact in float32 too."""
    return torch.round((mean + std * torch.randn(*shape)) * 64) / 64


def numbers(t):
    t = torch.as_tensor(t)
    if t.dtype in (torch.int64, torch.int32):
        return {"shape": list(t.shape), "dtype": "int32", "data": [int(v) for v in t.reshape(-1)]}
    return {"shape": list(t.shape), "data": [float("%.15g" % v) for v in t.detach().reshape(-1).tolist()]}


def by_name(tensors):
    return {name: numbers(t) for name, t in tensors.items()}


def step(training, inputs, dy, y, input_grads, grads, state):
    """One call: inputs, cotangent and result; gradients (null where there is none); the state after it."""
    return {
        "training": training,
        "inputs": [numbers(t) for t in inputs],
        "dy": numbers(dy),
        "y": numbers(y),
        "inputGrads": [None if g is None else numbers(g) for g in input_grads],
        "grads": by_name(grads),
        "state": by_name(state),
    }


def follow(formula, parameters, buffers, calls):
    """Runs formula(parameters, buffers, training, *inputs) -> y, which updates buffers, with torch's gradients."""
    steps = []
    for training, inputs in calls:
        leaves = [t.clone().requires_grad_() if t.is_floating_point() else t for t in inputs]
        ps = {name: t.clone().requires_grad_() for name, t in parameters.items()}
        y = formula(ps, buffers, training, *leaves)
        dy = exact(*y.shape)
        wanted = [t for t in leaves if t.requires_grad] + list(ps.values())
        found = list(torch.autograd.grad(y, wanted, dy, allow_unused=True))
        input_grads = [found.pop(0) if t.requires_grad else None for t in leaves]
        grads = {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(ps.items(), found)}
        steps.append(step(training, inputs, dy, y, input_grads, grads, buffers))
    return steps


def case(layer, args, options, parameters, buffers, steps, first):
    return {
        "layer": layer,
        "args": args,
        "options": options,
        "state": {**by_name(parameters), **first},
        "steps": steps,
    }


def write(name, cases):
    path = pathlib.Path(__file__).with_name(name)
    path.write_text(json.dumps({"cases": cases}, separators=(",", ":")) + "\n")
    print(name, len(cases), "cases,", path.stat().st_size, "bytes")
