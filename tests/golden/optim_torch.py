"""Records parameters after each step of torch.optim's update rules on given gradients, in float64.

Run with Debian's python3-torch:  /usr/bin/python3 tests/golden/optim_torch.py
"""
import json
import os

import torch

torch.manual_seed(3)
SIZES = [5, 16]
STEPS = 6
start = [torch.randn(n, dtype=torch.float64) for n in SIZES]
grads = [[torch.randn(n, dtype=torch.float64) for n in SIZES] for _ in range(STEPS)]

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weightDecay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weightDecay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "maximize": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": [0.8, 0.95], "eps": 1e-3, "weightDecay": 0.1}),
    ("Adam", {"lr": 0.01, "maximize": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weightDecay": 0.2, "betas": [0.7, 0.9]}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.9, "weightDecay": 0.1}),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5, "eps": 1e-4}),
]


def snake(name):
    return "".join("_" + c.lower() if c.isupper() else c for c in name)


out = {"start": [t.tolist() for t in start], "grads": [[t.tolist() for t in g] for g in grads], "cases": []}
for name, options in CASES:
    params = [t.clone().requires_grad_() for t in start]
    optimizer = getattr(torch.optim, name)(params, **{snake(k): v for k, v in options.items()})
    steps = []
    for g in grads:
        for p, d in zip(params, g):
            p.grad = d.clone()
        optimizer.step()
        steps.append([p.detach().tolist() for p in params])
    out["cases"].append({"name": name, "options": options, "steps": steps})

params = [torch.zeros(3, dtype=torch.float64, requires_grad=True)]
plateau = torch.optim.SGD(params, lr=1.0)
schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(plateau, factor=0.5, patience=2, cooldown=1, min_lr=0.1)
metrics = [5, 4, 4, 4, 4, 3.9999, 3.9999, 3.9999, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]
rates = []
for m in metrics:
    schedule.step(m)
    rates.append(plateau.param_groups[0]["lr"])
out["plateau"] = {"metrics": metrics, "rates": rates}

steps_optimizer = torch.optim.SGD(params, lr=1.0)
step_lr = torch.optim.lr_scheduler.StepLR(steps_optimizer, step_size=3, gamma=0.5)
rates = []
for _ in range(10):
    steps_optimizer.step()
    step_lr.step()
    rates.append(steps_optimizer.param_groups[0]["lr"])
out["stepLR"] = rates

params = [t.clone().requires_grad_() for t in start]
for p, d in zip(params, grads[0]):
    p.grad = d.clone()
norm = torch.nn.utils.clip_grad_norm_(params, 1.5)
out["clip"] = {"maxNorm": 1.5, "norm": norm.item(), "grads": [p.grad.tolist() for p in params]}

with open(os.path.join(os.path.dirname(__file__), "optim_torch.json"), "w") as f:
    json.dump(out, f)
