# Values and gradients of fused normalizations, each from torch's plain functions. Writes fused_torch.json beside itself.
import json, os
import torch
import torch.nn.functional as F

torch.manual_seed(20260)
torch.set_default_dtype(torch.float64)
ACTIVATIONS = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu, "leakyRelu": lambda z: F.leaky_relu(z, 0.01)}
cases = []


def flat(t):
    return t.detach().flatten().tolist()


def add(kind, shapes, f, **more):
    inputs = [torch.randn(s, requires_grad=True) for s in shapes]
    outputs = f(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    cotangents = [torch.randn_like(y) for y in outputs]
    grads = torch.autograd.grad(sum((y * c).sum() for y, c in zip(outputs, cotangents)), inputs)
    cases.append(dict(
        kind=kind, shapes=shapes, inputs=[flat(t) for t in inputs], outputs=[flat(t) for t in outputs],
        cotangents=[flat(t) for t in cotangents], gradients=[flat(t) for t in grads], **more))


def rms(x, w, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * w


mean, var = torch.randn(4), torch.rand(4) + 0.5
for name, act in ACTIVATIONS.items():
    add("batch", [[3, 4, 5], [4], [4]], lambda x, w, b: act(F.batch_norm(x, None, None, w, b, True)), activation=name)
    add("evaluation", [[3, 4, 5], [4], [4]], lambda x, w, b: act(F.batch_norm(x, mean, var, w, b, False)),
        activation=name, mean=flat(mean), variance=flat(var))
    add("group", [[2, 4, 3], [4], [4]], lambda x, w, b: act(F.group_norm(x, 2, w, b)), activation=name)
    add("instance", [[2, 4, 5], [4], [4]], lambda x, w, b: act(F.instance_norm(x, None, None, w, b)), activation=name)
    add("layer", [[5, 7], [7], [7]], lambda x, w, b: act(F.layer_norm(x, [7], w, b)), activation=name)
    add("rms", [[5, 7], [7]], lambda x, w: act(rms(x, w, 1e-5)), activation=name)
add("addLayer", [[5, 7], [5, 7], [7], [7]], lambda x, r, w, b: (F.layer_norm(x + r, [7], w, b), x + r))
add("addRms", [[5, 7], [5, 7], [7]], lambda x, r, w: (rms(x + r, 1 + w, 1e-6), x + r))
for slope in [1, 0.01, 0.3]:
    add("inPlace", [[3, 4, 5], [4], [4]],
        lambda x, w, b: F.leaky_relu(F.batch_norm(x, None, None, w.abs() + 1e-5, b, True), slope), slope=slope)

with open(os.path.join(os.path.dirname(__file__), "fused_torch.json"), "w") as f:
    json.dump(dict(torch=torch.__version__, cases=cases), f)
