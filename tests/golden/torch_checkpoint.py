"""Records a PyTorch checkpoint with every normalization layer: torch_checkpoint.pt, .safetensors and _runs.safetensors.

Run: python3 tests/golden/torch_checkpoint.py          (torch >= 1.13, on the CPU)

A bank of small networks ("parts"), each with a normalization layer of torch.nn or torch.nn.utils, is trained for a few steps so that
no statistic is what it began as. Saved are the state of all of them, as torch.save writes it and as a safetensors file written
here from the description of that format. The file of runs has for each part an input (multiples of 1/64, exact in float32), its
output in evaluation and that of one training forward from the same state, in float64 and float32.
"""

import json
import pathlib
import struct

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

SEED = 20261
torch.set_num_threads(1)
here = pathlib.Path(__file__).parent


class WeightNorm(nn.Module):
    """torch 2's parametrizations.weight_norm, which torch 1.13 has not: g and v as original0 and original1."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, g, v):
        return torch._weight_norm(v, g, self.dim)

    def right_inverse(self, weight):
        return torch.norm_except_dim(weight, 2, self.dim), weight


def new_weight_norm(module, dim=0):
    parametrize.register_parametrization(module, "weight", WeightNorm(dim), unsafe=True)
    return module


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(x + self.attention(x, x, x, need_weights=False)[0])


def parts():
    line, plane, volume, row = (2, 4, 5), (2, 4, 4, 3), (2, 4, 2, 3, 2), (5, 4)
    return {
        "batch1d": (line, nn.Sequential(nn.Conv1d(4, 3, 2), nn.BatchNorm1d(3))),
        "batch_rows": (row, nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=None))),
        "batch2d": (plane, nn.Sequential(nn.Conv2d(4, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU())),
        "batch3d": (volume, nn.Sequential(nn.Conv3d(4, 2, 2), nn.BatchNorm3d(2, eps=1e-3, momentum=0.3))),
        "batch_plain": (plane, nn.Sequential(nn.BatchNorm2d(4, affine=False))),
        "batch_untracked": (plane, nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False))),
        "sync": (row, nn.Sequential(nn.Linear(4, 3), nn.SyncBatchNorm(3))),
        "layer": (row, nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))),
        "layer_plane": (plane, nn.Sequential(nn.LayerNorm([4, 3], eps=1e-3))),
        "layer_image": (plane, nn.Sequential(nn.LayerNorm([4, 4, 3]))),
        "layer_plain": (row, nn.Sequential(nn.LayerNorm(4, elementwise_affine=False), nn.Linear(4, 2))),
        "group": (plane, nn.Sequential(nn.Conv2d(4, 6, 2, groups=2), nn.GroupNorm(3, 6))),
        "group_plain": (line, nn.Sequential(nn.GroupNorm(2, 4, affine=False))),
        "instance1d": (line, nn.Sequential(nn.InstanceNorm1d(4, affine=True, track_running_stats=True))),
        "instance2d": (plane, nn.Sequential(nn.InstanceNorm2d(4))),
        "instance2d_affine": (plane, nn.Sequential(nn.ConvTranspose2d(4, 3, 2, stride=2), nn.InstanceNorm2d(3, affine=True))),
        "instance3d": (volume, nn.Sequential(nn.InstanceNorm3d(4, track_running_stats=True))),
        "local_response": (plane, nn.Sequential(nn.Conv2d(4, 6, 1), nn.LocalResponseNorm(5, alpha=0.5, beta=0.75, k=2.0))),
        "weight": (plane, nn.Sequential(weight_norm(nn.Conv2d(4, 3, 2)))),
        "weight_whole": (row, nn.Sequential(weight_norm(nn.Linear(4, 3), dim=None))),
        "weight_new": (row, nn.Sequential(new_weight_norm(nn.Linear(4, 3)))),
        "weight_new_transposed": (line, nn.Sequential(new_weight_norm(nn.ConvTranspose1d(4, 2, 2), dim=1))),
        "spectral": (row, nn.Sequential(spectral_norm(nn.Linear(4, 3)))),
        "spectral_transposed": (volume, nn.Sequential(spectral_norm(nn.ConvTranspose3d(4, 2, 2)))),
        "spectral_new": (plane, nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(4, 3, 2)))),
        "embedding": ((3, 5), nn.Sequential(nn.Embedding(7, 4), nn.LayerNorm(4))),
        "attention": ((2, 5, 4), Attention()),
    }


def exact(shape):
    return torch.round(torch.randn(shape) * 64 + 16) / 64


def draw(name, shape):
    return torch.randint(0, 7, shape) if name == "embedding" else exact(shape).double()


def evaluated_sync(part, training, x):
    """SyncBatchNorm runs on GPUs alone; a single process's is BatchNorm over the same tensors."""
    twin = nn.BatchNorm1d(3).to(x.dtype).train(training)
    twin.load_state_dict(part[1].state_dict())
    y = twin(part[0](x))
    part[1].load_state_dict(twin.state_dict())
    return y


def forward(name, part, x):
    return evaluated_sync(part, part.training, x) if name == "sync" else part(x)


def train(name, part, shape):
    optimizer = torch.optim.SGD(part.parameters(), lr=0.05) if list(part.parameters()) else None
    for _ in range(4):
        y = forward(name, part, draw(name, shape))
        if optimizer and name != "sync":
            optimizer.zero_grad()
            ((y - 0.5) ** 3).mean().backward()
            optimizer.step()
    # torch's newer spectral_norm renews u before v, its older one and Evenkeel v before u: the same once both have settled.
    for _ in range(200 if name == "spectral_new" else 0):
        forward(name, part, draw(name, shape))


CODES = {torch.float64: "F64", torch.float32: "F32", torch.int64: "I64"}


def write_safetensors(path, state):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, t in state.items():
        raw = t.detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": CODES[t.dtype], "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    torch.manual_seed(SEED)
    made = parts()
    bank = nn.ModuleDict({name: part for name, (_, part) in made.items()}).double()
    for name, (shape, _) in made.items():
        train(name, bank[name].train(), shape)
    state = {k: v.detach().clone() for k, v in bank.state_dict().items()}
    torch.save(state, here / "torch_checkpoint.pt")
    write_safetensors(here / "torch_checkpoint.safetensors", state)
    runs = {}
    for name, (shape, _) in made.items():
        x = draw(name, shape)
        runs[f"{name} x"] = x if name == "embedding" else x.float()
        for dtype in (torch.float64, torch.float32):
            for training in (False, True):
                bank.load_state_dict(state)
                bank.to(dtype)
                y = forward(name, bank[name].train(training), x if name == "embedding" else x.to(dtype))
                runs[f"{name} {'train' if training else 'eval'} {str(dtype)[6:]}"] = y
                bank.double()
    write_safetensors(here / "torch_checkpoint_runs.safetensors", runs)
    for path in sorted(here.glob("torch_checkpoint*.[ps][ta]*")):
        print(path.name, path.stat().st_size, "bytes")
    print(len(state), "tensors,", len(made), "parts")


main()
