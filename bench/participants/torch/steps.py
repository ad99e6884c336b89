import torch
from torch import nn

from prepared import Prepared

CHECKED_STEPS = 3


def block(inside, outside):
    return [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU()]


def digits_cnn():
    return nn.Sequential(*block(1, 16), *block(16, 32), nn.MaxPool2d(2), *block(32, 32), nn.Flatten(), nn.Linear(512, 10))


def cnn():
    pooled = [nn.MaxPool2d(2)]
    return nn.Sequential(*block(1, 32), *pooled, *block(32, 64), *pooled, nn.Flatten(), nn.Linear(3136, 10))


def mlp():
    return nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(256)
        self.attention = nn.MultiheadAttention(256, 8, batch_first=True)
        self.norm2 = nn.LayerNorm(256)
        self.mlp = nn.Sequential(nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256))

    def forward(self, x):
        a = self.norm1(x)
        y = x + self.attention(a, a, a, need_weights=False)[0]
        return y + self.mlp(self.norm2(y))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


models = {
    "digits-cnn": (digits_cnn, lambda m: torch.optim.AdamW(m.parameters(), lr=1e-3)),
    "cnn": (cnn, sgd),
    "mlp": (mlp, sgd),
    "transformer": (Transformer, lambda m: torch.optim.Adam(m.parameters(), lr=1e-3)),
}


def step(case, inputs):
    make, optimizer_of = models[case["model"]]
    model = make().to(inputs["input"])
    state = {name[2:]: value for name, value in inputs.items() if name.startswith("p:")}
    tracked = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict({**tracked, **state})
    optimizer = optimizer_of(model)
    x, target = inputs["input"], inputs["target"]
    if target.dim() == 1:
        target, loss_of = target.long(), nn.CrossEntropyLoss()
    else:
        loss_of = nn.MSELoss()

    def queue():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(x), target)
        loss.backward()
        optimizer.step()
        return loss

    def train():
        return queue().item()

    # Reading the loss waits for the device: `queue` leaves that out.
    run = {"train": train, "queue": queue}
    return Prepared(run, lambda: {"losses": torch.tensor([train() for _ in range(CHECKED_STEPS)], dtype=torch.float64)})


kinds = {"step": step}
