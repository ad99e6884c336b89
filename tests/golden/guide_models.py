"""Records the models of docs/from-pytorch.md and docs/from-keras.md: guide_model.pt and guide_model.keras, and prints their outputs.

Run: python3 tests/golden/guide_models.py          (torch >= 1.13, numpy, h5py; not Keras)

The PyTorch model is the page's own code, trained for a few steps. The Keras archive is written as Keras 3 writes it (config.json,
model.weights.h5, metadata.json), and its outputs follow from the documented formulas, channels last, in float64.
"""

import io
import json
import pathlib
import zipfile

import h5py
import numpy as np
import torch
from torch import nn

here = pathlib.Path(__file__).parent


def pytorch():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.utils.weight_norm(nn.Linear(144, 3))
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(16, 1, 8, 8)), torch.randint(0, 3, (16,))).backward()
        optimizer.step()
    torch.save(model.state_dict(), here / "guide_model.pt")
    model.eval()
    x = (torch.arange(64) / 64).reshape(1, 1, 8, 8)
    print("PyTorch", ["%.5f" % v for v in model(x)[0].tolist()])


def layer(name, class_name, **config):
    return {"module": "keras.layers", "class_name": class_name, "config": {"name": name, **config}}


def keras():
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32) / 4
    kernel, dense, bias = draw(3, 3, 1, 4), draw(144, 3), draw(3)
    gamma, beta, mean, variance = draw(4) + 1, draw(4), draw(4), np.abs(draw(4)) + np.float32(0.25)
    layers = [
        layer("input_layer", "InputLayer", batch_shape=[None, 8, 8, 1]),
        layer("stem", "Conv2D", filters=4, kernel_size=[3, 3], use_bias=False),
        layer("norm", "BatchNormalization", axis=-1, momentum=0.9, epsilon=0.001, center=True, scale=True),
        layer("re_lu", "ReLU"),
        layer("flatten", "Flatten"),
        layer("head", "Dense", units=3, use_bias=True),
    ]
    config = {"module": "keras", "class_name": "Sequential", "config": {"name": "sequential", "layers": layers}}
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        groups = {"conv2d": [kernel], "batch_normalization": [gamma, beta, mean, variance], "dense": [dense, bias]}
        for name, values in groups.items():
            for i, value in enumerate(values):
                file[f"layers/{name}/vars/{i}"] = value
    with zipfile.ZipFile(here / "guide_model.keras", "w") as archive:
        for name, content in (
            ("metadata.json", json.dumps({"keras_version": "3.6.0"})),
            ("config.json", json.dumps(config)),
            ("model.weights.h5", weights.getvalue()),
        ):
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content)
    x = (np.arange(64) / 64).reshape(8, 8, 1)
    y = np.zeros((6, 6, 4))
    for i in range(6):
        for j in range(6):
            y[i, j] = np.einsum("abc,abco->o", x[i : i + 3, j : j + 3], kernel)
    y = np.maximum((y - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0)
    print("Keras", ["%.5f" % v for v in y.reshape(-1) @ dense + bias])


pytorch()
keras()
