import torch
from torch import nn

from prepared import Prepared

EPS = 1e-5


class PlainRMSNorm(nn.Module):
    """Zhang and Sennrich 2019, for a torch that has no layer of its own, as 1.13."""

    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.axes = tuple(range(-len(shape), 0))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(self.axes, keepdim=True) + EPS) * self.weight


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of each position of [N, C, H, W], as ConvNeXt has it."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


make = {
    "batch": lambda c: nn.BatchNorm2d(c["channels"], eps=EPS),
    "batch1d": lambda c: nn.BatchNorm1d(c["channels"], eps=EPS),
    "layer": lambda c: nn.LayerNorm(c["shape"][1:], eps=EPS),
    "layer2d": lambda c: LayerNorm2d(c["channels"], eps=EPS),
    "group": lambda c: nn.GroupNorm(c["groups"], c["channels"], eps=EPS),
    "instance": lambda c: nn.InstanceNorm2d(c["channels"], eps=EPS, affine=True),
    "rms": lambda c: nn.RMSNorm(c["shape"][1:], eps=EPS) if hasattr(nn, "RMSNorm") else PlainRMSNorm(c["shape"][1:]),
}


def norm(case, inputs):
    # Channels last is a matter of strides here: the same memory, seen as [N, C, H, W].
    last = case["layout"] == "last" and len(case["shape"]) == 4
    seen = (lambda t: t.permute(0, 3, 1, 2)) if last else (lambda t: t)
    stored = (lambda t: t.permute(0, 2, 3, 1)) if last else (lambda t: t)
    layer, evaluating = (make[case["norm"]](case).to(inputs["weight"]) for _ in range(2))
    for one in (layer, evaluating):
        with torch.no_grad():
            one.weight.copy_(inputs["weight"].reshape(one.weight.shape))
            if "bias" in inputs:
                one.bias.copy_(inputs["bias"].reshape(one.bias.shape))
            if "mean" in inputs:
                one.running_mean.copy_(inputs["mean"])
                one.running_var.copy_(inputs["variance"])
    evaluating.eval()
    x = seen(inputs["x"]).requires_grad_(True)
    dy = seen(inputs["dy"])
    wanted = [x, *layer.parameters()]
    y = layer(x)

    def backward():
        return torch.autograd.grad(y, wanted, dy, retain_graph=True)

    def evaluate():
        with torch.no_grad():
            return evaluating(x)

    def results():
        dx, *rest = backward()
        named = dict(zip(("dweight", "dbias"), rest))
        return {"y": stored(y), "eval": stored(evaluate()), "dx": stored(dx), **named}

    return Prepared({"forward": lambda: layer(x), "backward": backward, "eval": evaluate}, results)


kinds = {"norm": norm}
