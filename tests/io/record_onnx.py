"""Records small networks that torch exports, with an input and torch's output: /usr/bin/python3 tests/io/record_onnx.py

Writes tests/io/files/torch_<name>.onnx and tests/io/files/onnx_torch.json. Made with torch 1.13.1.
"""
import json
import pathlib
import torch
from torch import nn

here = pathlib.Path(__file__).parent / "files"


class Shuffle(nn.Module):
    """Reshapes and slices whose sizes an exporter writes as shape arithmetic."""

    def forward(self, x):
        n, c, h, w = x.shape
        y = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return torch.cat([y[:, :, ::2], y[:, :, 1::2]], dim=2)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.place = nn.Parameter(torch.randn(6, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids):
        x = self.table(ids) + self.place
        return self.head(self.norm(self.encoder(x)).mean(1))


def randomize(net):
    # Layers that are copies of each other would share their weights in the file.
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    for m in net.modules():
        for name in ("weight", "bias"):
            p = getattr(m, name, None)
            if p is not None and "Norm" in type(m).__name__:
                nn.init.normal_(p, 0.5, 0.5)
        if getattr(m, "running_mean", None) is not None:
            nn.init.normal_(m.running_mean)
            nn.init.uniform_(m.running_var, 0.5, 2)


def models():
    cnn = nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.GroupNorm(4, 8), nn.SiLU(), nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(8, 6, 1), nn.InstanceNorm2d(6, affine=True), nn.LeakyReLU(0.1), Shuffle(),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1),
        nn.LocalResponseNorm(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )
    mlp = nn.Sequential(nn.Linear(5, 9), nn.BatchNorm1d(9), nn.GELU(), nn.Dropout(0.5), nn.LayerNorm(9), nn.Linear(9, 9),
                        nn.PReLU(9), nn.Hardswish(), nn.Linear(9, 4), nn.LogSoftmax(-1))
    image = torch.randn(3, 2, 11, 13)
    yield "cnn", cnn, image, {0: "batch"}, 13, torch.onnx.TrainingMode.EVAL
    yield "cnn_apart", cnn, image, {0: "batch", 2: "height", 3: "width"}, 11, torch.onnx.TrainingMode.PRESERVE
    yield "mlp", mlp, torch.randn(4, 5), {0: "batch"}, 9, torch.onnx.TrainingMode.EVAL
    yield "transformer", Classifier(), torch.randint(0, 11, (3, 6)), {0: "batch"}, 17, torch.onnx.TrainingMode.EVAL


def main():
    recorded = {"torch": torch.__version__, "models": {}}
    for name, net, x, axes, opset, mode in models():
        torch.manual_seed(7)
        randomize(net)
        net.eval()
        with torch.no_grad():
            y = net(x)
        torch.onnx.export(net, x, str(here / f"torch_{name}.onnx"), opset_version=opset, input_names=["input"], output_names=["output"],
                          dynamic_axes={"input": axes, "output": {0: "batch"}}, training=mode, do_constant_folding=mode == torch.onnx.TrainingMode.EVAL)
        recorded["models"][name] = {"opset": opset, "input": {"type": "int64" if x.dtype == torch.int64 else "float32", "shape": list(x.shape), "data": x.flatten().tolist()},
                                    "output": {"shape": list(y.shape), "data": y.flatten().tolist()}}
    (here / "onnx_torch.json").write_text(json.dumps(recorded) + "\n")


torch.manual_seed(3)
main()
