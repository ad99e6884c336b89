"""Records the family of batch normalization in float64: tests/golden/batch_family.json.

Run: python3 tests/golden/batch_family.py          (torch >= 1.13, on the CPU)

torch has none of these layers on the CPU. Each is written here as its source states it, in plain tensor arithmetic or with
torch.nn.functional on the values that a statistic spans, and torch's autograd gives the gradients:

  SyncBatchNorm       batch_norm of the joined batch
  GhostBatchNorm      batch_norm of one chunk after another (1705.08741, algorithm 1)
  BatchRenorm         1702.03275, algorithm 1, r and d detached; running variance instead of running sigma
  VirtualBatchNorm    1606.03498, section 3.5: mean and variance of the reference batch with the example appended to it
  FrozenBatchNorm     batch_norm in evaluation
  Masked*             batch_norm, group_norm of the values that the mask selects

A case holds the layer's name, arguments and options in Evenkeel's names, its weight and bias, and a list of steps with x,
dy, what came of them, and the state after it. Inputs are multiples of 1/64, exact in float32 too.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
EPS = 1e-5


def exact(t):
    return torch.round(t * 64) / 64


def numbers(t):
    return [float("%.12g" % v) for v in t.detach().reshape(-1).tolist()]


def first(x, axis):
    """[N, C, positions]"""
    return x.movedim(axis, 1).reshape(x.shape[0], x.shape[axis], -1)


class Layer:
    def __init__(self, channels, options):
        self.o = options
        self.eps = options.get("eps", EPS)
        self.axis = options.get("axis", 1)
        self.weight = exact(1 + 0.5 * torch.randn(channels)).requires_grad_()
        self.bias = exact(torch.randn(channels)).requires_grad_()
        self.mean = torch.zeros(channels)
        self.var = torch.ones(channels)
        self.seen = 0

    def affine(self, xhat):
        shape = [1, -1] + [1] * (xhat.dim() - 2)
        return xhat * self.weight.reshape(shape) + self.bias.reshape(shape)

    def batch(self, x, momentum=0.1):
        """batch_norm of [N, C, ...] in training, moving the running statistics."""
        self.seen += 1
        m = self.o.get("momentum", momentum)
        m = 1 / self.seen if m is None else m
        return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, True, m, self.eps)

    def evaluate(self, x):
        return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, False, 0.0, self.eps)

    def plain(self, run, x):
        """Runs on [N, C, ...], wherever the channels lie."""
        return run(x.movedim(self.axis, 1).contiguous()).movedim(1, self.axis)

    def __call__(self, x, training, mask):
        return self.plain(self.train if training else self.evaluate, x)


class SyncBatchNorm(Layer):
    def train(self, x):
        return self.batch(x)


class GhostBatchNorm(Layer):
    def train(self, x):
        return torch.cat([self.batch(part) for part in x.split(self.o["virtualBatchSize"])])


class BatchRenorm(Layer):
    def train(self, x):
        axes = [i for i in range(x.dim()) if i != 1]
        wide = [1, -1] + [1] * (x.dim() - 2)
        mu = x.mean(axes)
        var = ((x - mu.reshape(wide)) ** 2).mean(axes)
        sigma_batch = torch.sqrt(var + self.eps)
        sigma = torch.sqrt(self.var + self.eps)
        r_max, d_max = self.o["rMax"], self.o["dMax"]
        r = (sigma_batch / sigma).clamp(1 / r_max, r_max).detach()
        d = ((mu - self.mean) / sigma).clamp(-d_max, d_max).detach()
        xhat = (x - mu.reshape(wide)) / sigma_batch.reshape(wide) * r.reshape(wide) + d.reshape(wide)
        m = self.o.get("momentum", 0.01)
        n = x.numel() / x.shape[1]
        self.mean = (1 - m) * self.mean + m * mu.detach()
        self.var = (1 - m) * self.var + m * var.detach() * n / (n - 1)
        self.seen += 1
        return self.affine(xhat)


class VirtualBatchNorm(Layer):
    reference = None

    def run(self, x):
        flat = lambda t: t.transpose(0, 1).reshape(t.shape[1], -1)
        if self.reference is None:
            self.reference = x.detach()
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        parts = []
        for i in range(x.shape[0]):
            example = x[i : i + 1]
            joined = torch.cat([flat(self.reference), flat(example)], 1)
            wide = [1, -1] + [1] * (x.dim() - 2)
            mu = joined.mean(1)
            var = ((joined - mu[:, None]) ** 2).mean(1)
            xhat = (example - mu.reshape(wide)) / torch.sqrt(var + self.eps).reshape(wide)
            parts.append(self.affine(xhat))
        return torch.cat(parts)

    train = evaluate = run


class FrozenBatchNorm(Layer):
    def __init__(self, channels, options):
        super().__init__(channels, options)
        self.weight = self.weight.detach()
        self.bias = self.bias.detach()
        self.mean = exact(torch.randn(channels))
        self.var = exact(0.5 + torch.rand(channels))

    def train(self, x):
        return self.evaluate(x)


class Masked(Layer):
    def __call__(self, x, training, mask):
        a = self.axis % x.dim()
        last = x.movedim(a, -1)
        # 0 or x where padded; the valid values are put in below, so that autograd sees a plain selection.
        out = torch.zeros_like(last) if self.o.get("padded", "zero") == "zero" else last.clone()
        out = self.fill(out, last, mask.bool(), training)
        return out.movedim(-1, a)


class MaskedBatchNorm(Masked):
    def fill(self, out, last, mask, training):
        values = last[mask]
        return out.index_put((mask,), self.batch(values) if training else self.evaluate(values))


class MaskedGroupNorm(Masked):
    def groups(self):
        return self.o["groups"]

    def fill(self, out, last, mask, training):
        for n in range(last.shape[0]):
            if mask[n].any():
                values = last[n][mask[n]].transpose(0, 1)[None]
                y = F.group_norm(values, self.groups(), self.weight, self.bias, self.eps)[0].transpose(0, 1)
                index = (torch.full((int(mask[n].sum()),), n), *mask[n].nonzero(as_tuple=True))
                out = out.index_put(index, y)
        return out


class MaskedInstanceNorm(MaskedGroupNorm):
    def groups(self):
        return self.weight.numel()


RUNNING = ["SyncBatchNorm", "GhostBatchNorm", "BatchRenorm", "MaskedBatchNorm"]


def record(kind, args, shape, steps, options, shards=None):
    name = kind.__name__
    axis = options.get("axis", 1)
    layer = kind(shape[axis], {**options, "groups": args[0]} if kind is MaskedGroupNorm else options)
    case = {"layer": name, "args": args, "options": options, "weight": numbers(layer.weight), "bias": numbers(layer.bias)}
    if shards:
        case["shards"] = shards
    if kind is FrozenBatchNorm:
        case["runningMean"], case["runningVar"] = numbers(layer.mean), numbers(layer.var)
    case["steps"] = []
    for step in range(steps + 1):
        training = step < steps
        centre = 3.0 if step == 0 else 0.7 * torch.randn(()).item()
        x = exact(centre + (0.5 + torch.rand(()).item()) * torch.randn(shape)).requires_grad_()
        dy = exact(torch.randn(shape))
        mask = None
        made = {"shape": list(shape), "training": training, "x": numbers(x), "dy": numbers(dy)}
        if issubclass(kind, Masked):
            positions = [d for i, d in enumerate(shape) if i != axis % len(shape)]
            mask = (torch.rand(positions) < 0.7).double()
            # torch's group_norm refuses a single value.
            mask.reshape(positions[0], -1)[:, :2] = 1
            if step == 1 and not kind is MaskedBatchNorm:
                mask[0] = 0
            made["maskShape"], made["mask"] = positions, [int(v) for v in mask.reshape(-1)]
        for p in [layer.weight, layer.bias]:
            p.grad = None
        y = layer(x, training, mask)
        y.backward(dy)
        made["y"], made["dx"] = numbers(y), numbers(x.grad)
        if layer.weight.requires_grad:
            made["weightGrad"], made["biasGrad"] = numbers(layer.weight.grad), numbers(layer.bias.grad)
        if name in RUNNING:
            made["runningMean"], made["runningVar"] = numbers(layer.mean), numbers(layer.var)
            made["numBatchesTracked"] = layer.seen
        case["steps"].append(made)
    return case


def cases():
    yield SyncBatchNorm, [3], (6, 3, 2), 2, {}, [2, 0, 4]
    yield SyncBatchNorm, [3], (6, 2, 3), 2, {"axis": -1, "momentum": None, "eps": 0.25}, [1, 5]
    yield SyncBatchNorm, [4], (5, 4), 2, {}, [1, 1, 0, 3]
    yield GhostBatchNorm, [2], (6, 2, 3), 2, {"virtualBatchSize": 2}
    yield GhostBatchNorm, [2], (7, 2, 1, 2), 2, {"virtualBatchSize": 3}
    yield GhostBatchNorm, [3], (5, 2, 3), 2, {"virtualBatchSize": 2, "axis": -1, "momentum": None}
    yield GhostBatchNorm, [4], (8, 4), 2, {"virtualBatchSize": 4, "eps": 0.25}
    for limits in [{"rMax": 1, "dMax": 0}, {"rMax": 1.2, "dMax": 0.5}, {"rMax": 3, "dMax": 5}]:
        yield BatchRenorm, [3], (3, 3, 2), 3, limits
    yield BatchRenorm, [3], (3, 1, 2, 3), 2, {"rMax": 1.5, "dMax": 1, "axis": -1, "momentum": 0.3, "eps": 0.25}
    yield VirtualBatchNorm, [3], (3, 3, 4), 2, {}
    yield VirtualBatchNorm, [3], (3, 2, 2, 3), 1, {"axis": -1, "eps": 0.25}
    yield VirtualBatchNorm, [3], (5, 3), 2, {}
    yield FrozenBatchNorm, [3], (3, 3, 2), 1, {}
    yield FrozenBatchNorm, [3], (2, 2, 3), 1, {"axis": -1, "eps": 0.25}
    for kind, args in [(MaskedBatchNorm, [4]), (MaskedGroupNorm, [2, 4]), (MaskedInstanceNorm, [4])]:
        more = {"affine": True} if kind is MaskedInstanceNorm else {}
        yield kind, args, (3, 4, 5), 2, more
        yield kind, args, (3, 5, 4), 1, {"axis": -1, "padded": "keep", **more}
        yield kind, args, (2, 4, 2, 3), 1, {"eps": 0.25, **more}


def main():
    torch.manual_seed(20240301)
    every = [record(*case) for case in cases()]
    text = json.dumps({"torch": torch.__version__, "cases": every}, separators=(",", ":"))
    out = pathlib.Path(__file__).with_name("batch_family.json")
    # One case a line keeps a difference between two recordings readable.
    out.write_text(text.replace('{"layer":', '\n{"layer":') + "\n")
    print(f"{out.name}: {len(every)} cases, {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
