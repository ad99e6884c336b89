import torch
from torch.nn import functional as F

from prepared import Prepared

ops = {
    "add": lambda i: i["x"] + i["other"],
    "gelu": lambda i: F.gelu(i["x"]),
    "softmax": lambda i: torch.softmax(i["x"], -1),
    "cross-entropy": lambda i: F.cross_entropy(i["x"], i["target"]),
}


def elements(case, inputs):
    if case["op"] == "adamw":
        return adamw(inputs)
    op = ops[case["op"]]
    if "target" in inputs:
        inputs["target"] = inputs["target"].long()
    x = inputs["x"].requires_grad_(True)
    y = op(inputs)

    def forward():
        with torch.no_grad():
            return op(inputs)

    def backward():
        return torch.autograd.grad(y, x, inputs.get("dy"), retain_graph=True)[0]

    def results():
        return {"y": y, **({"dx": backward()} if "backward" in case["modes"] else {})}

    return Prepared({"forward": forward, "backward": backward}, results)


def adamw(inputs):
    """In one kernel where this torch has that: its own default takes several."""
    x = inputs["x"].clone().requires_grad_(True)
    x.grad = inputs["dy"]
    try:
        optimizer = torch.optim.AdamW([x], lr=1e-3, fused=x.is_cuda)
    except TypeError:
        optimizer = torch.optim.AdamW([x], lr=1e-3)

    def results():
        optimizer.step()
        return {"x": x}

    return Prepared({"update": optimizer.step}, results)


kinds = {"elements": elements}
