"""Writes files/torch_*.pt with PyTorch: python3 tests/io/record_torch.py. Last run with torch 1.13."""
import argparse
import collections
import os
import numpy
import torch
from torch import nn

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "files")
torch.manual_seed(5)


def save(value, name, **options):
    torch.save(value, f"{here}/torch_{name}.pt", **options)


def ramp(*shape, dtype=torch.float32):
    """Element i in row-major order is (7 i mod 23) - 11, a quarter of it for floats, and without a sign its size."""
    i = torch.arange(int(torch.tensor(shape).prod()) if shape else 1).reshape(shape)
    v = (7 * i) % 23 - 11
    if dtype == torch.bool:
        return v % 3 == 0
    return (v / 4 if dtype.is_floating_point else v.abs() if dtype == torch.uint8 else v).to(dtype)


names = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
tensors = {name: ramp(2, 3, dtype=getattr(torch, name)) for name in names}
whole = ramp(4, 6)
tensors.update({
    "rank 0": ramp(),
    "rank 5": ramp(1, 2, 3, 1, 2),
    "empty": torch.zeros(0, 3),
    "whole": whole,
    "transposed": ramp(3, 4).t(),
    "permuted": ramp(2, 3, 4).permute(2, 0, 1),
    "row 2": whole[2],
    "column 3": whole[:, 3],
    "every other": whole[1::2, ::3],
    "parameter": nn.Parameter(ramp(3)),
    "same": whole,
    "größe.中": ramp(2),
    "__proto__": ramp(2),
})
save(tensors, "tensors")
save(tensors, "protocol4", pickle_protocol=4)

model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
model(torch.randn(4, 3)).pow(2).sum().backward()
optimizer.step()
save({
    "epoch": 3,
    "best": 0.25,
    "name": "bn",
    "done": False,
    "nothing": None,
    "large": 2**40,
    "sizes": [1, (2, 3)],
    "shape": torch.Size([4, 5]),
    "dtype": torch.float16,
    "model_state_dict": model.state_dict(),
    "optimizer_state_dict": optimizer.state_dict(),
}, "checkpoint")
save(ramp(2, 2), "single")
save({"state": {}, "args": argparse.Namespace(lr=0.1)}, "object")
save(model, "module")
save(model.state_dict(), "old", _use_new_zipfile_serialization=False)
torch.jit.script(nn.Linear(2, 2)).save(f"{here}/torch_script.pt")

# Layers with an input and what torch makes of it, in evaluation after some steps of training.
layers = {
    "bn1": (nn.BatchNorm1d(4), (6, 4)),
    "bn2": (nn.BatchNorm2d(3, eps=1e-3, momentum=0.3), (2, 3, 4, 5)),
    "bn3": (nn.BatchNorm3d(2), (2, 2, 3, 3, 2)),
    "bn_plain": (nn.BatchNorm2d(3, affine=False), (2, 3, 2, 2)),
    "bn_untracked": (nn.BatchNorm1d(3, track_running_stats=False), (5, 3)),
    "bn_cumulative": (nn.BatchNorm1d(3, momentum=None), (5, 3)),
    "in1": (nn.InstanceNorm1d(3, affine=True), (2, 3, 7)),
    "in2": (nn.InstanceNorm2d(3, affine=True, track_running_stats=True), (2, 3, 4, 4)),
    "in3": (nn.InstanceNorm3d(2), (2, 2, 2, 3, 3)),
    "gn": (nn.GroupNorm(2, 6), (2, 6, 3)),
    "ln": (nn.LayerNorm(5), (3, 5)),
    "ln2": (nn.LayerNorm((3, 4), eps=1e-6), (2, 3, 4)),
    "lrn": (nn.LocalResponseNorm(3), (2, 5, 3)),
    "weight": (nn.utils.weight_norm(nn.Linear(4, 3)), (2, 4)),
    "spectral": (nn.utils.spectral_norm(nn.Linear(4, 3)), (2, 4)),
}
state, inputs, outputs = {}, {}, {}
for name, (layer, shape) in layers.items():
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        for _ in range(3):
            layer(torch.randn(shape) * 2 + 1)
        layer.eval()
        inputs[name] = torch.randn(shape) * 2 + 1
        outputs[name] = layer(inputs[name])
    state.update({f"{name}.{key}": value for key, value in layer.state_dict().items()})
save({"model_state_dict": state, "inputs": inputs, "outputs": outputs}, "norms")


# What programs around PyTorch save beside a state: objects of classes, which no reader of tensors can or may make.
class Config(dict):
    def __init__(self, **values):
        super().__init__(values)
        self.path = "runs"


save({
    "epoch": 7,
    "args": argparse.Namespace(lr=0.1, sizes=[1, 2], rate=numpy.float64(0.5)),
    "best": numpy.float32(0.25),
    "history": numpy.arange(3.0),
    "config": Config(depth=3),
    "counts": collections.defaultdict(int, a=1),
    "names": {"a", "b"},
    "frozen": frozenset([1]),
    "device": torch.device("cpu"),
    "loss": nn.CrossEntropyLoss(),
    "freqs": torch.zeros(2, dtype=torch.complex64),
    "state_dict": collections.OrderedDict(weight=ramp(2, 3), bias=ramp(2)),
}, "training")
