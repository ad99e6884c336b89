"""Records what PyTorch's layers and losses compute, in float64: tests/golden/layers_torch.json.

Run: python3 tests/golden/layers_torch.py          (torch >= 1.13, on the CPU)

A case holds a layer's name, its arguments and options in Evenkeel's names, its state, the inputs and a gradient of the
output (random multiples of 1/64), and what came of them: the output, the gradients of the float inputs and of the state.
"""

import json
import pathlib

import torch

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
torch.manual_seed(20240301)

OPTIONS = {
    "stride": "stride", "padding": "padding", "dilation": "dilation", "groups": "groups", "bias": "bias",
    "outputPadding": "output_padding", "ceilMode": "ceil_mode", "countIncludePad": "count_include_pad",
    "approximate": "approximate", "reduction": "reduction", "labelSmoothing": "label_smoothing",
    "ignoreIndex": "ignore_index", "delta": "delta", "weight": "weight", "posWeight": "pos_weight",
    "kdim": "kdim", "vdim": "vdim", "batchFirst": "batch_first", "paddingIdx": "padding_idx",
}


def exact(shape):
    return torch.round(torch.randn(shape) * 64) / 64


def tensor(t):
    t = t.detach()
    if t.dtype == torch.int64:
        return {"shape": list(t.shape), "dtype": "int32", "data": t.reshape(-1).tolist()}
    data = [float("%.13g" % v) for v in t.reshape(-1).tolist()]
    return {"shape": list(t.shape), "data": data}


def torch_value(v):
    return tuple(v) if isinstance(v, list) else v


def record(layer, args, inputs, options=None, masks=None, weights=False):
    options = options or {}
    made = {OPTIONS[k]: torch_value(v) for k, v in options.items()}
    module = getattr(torch.nn, layer)(*[torch_value(a) for a in args], **made)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(exact(p.shape))
        if layer == "Embedding" and "paddingIdx" in options:
            module.weight[options["paddingIdx"]].zero_()
    distinct = []
    for x in inputs:
        if not any(x is d for d in distinct):
            distinct.append(x)
    for x in distinct:
        if x.dtype.is_floating_point:
            x.requires_grad_()
    case = {"layer": layer, "args": args, "options": {}, "inputs": [tensor(x) for x in distinct],
            "order": [next(i for i, d in enumerate(distinct) if d is x) for x in inputs]}
    for k, v in options.items():
        case["options"][k] = tensor(v) if isinstance(v, torch.Tensor) else v
    if layer == "MultiheadAttention":
        masks = masks or {}
        torch_masks = {}
        if "keyPaddingMask" in masks:
            torch_masks["key_padding_mask"] = masks["keyPaddingMask"].bool()
        if "attnMask" in masks:
            m = masks["attnMask"]
            torch_masks["attn_mask"] = m.bool() if m.dtype == torch.int64 else m
        if masks.get("isCausal"):
            n, s = (inputs[0].shape[1], inputs[1].shape[1]) if made.get("batch_first") else (inputs[0].shape[0], inputs[1].shape[0])
            torch_masks["attn_mask"] = torch.ones(n, s).triu(1).bool()
        y, w = module(*inputs, **torch_masks)
        case["masks"] = {k: tensor(v) if isinstance(v, torch.Tensor) else v for k, v in masks.items()}
        case["weights"] = tensor(w)
    else:
        y = module(*inputs)
    dy = exact(y.shape)
    y.backward(dy)
    case["state"] = {k: tensor(v) for k, v in module.named_parameters()}
    case["stateGrads"] = {k: tensor(p.grad) for k, p in module.named_parameters()}
    case["y"], case["dy"] = tensor(y), tensor(dy)
    case["inputGrads"] = [tensor(x.grad) if x.grad is not None else None for x in distinct]
    return case


def classes(shape, n):
    return torch.randint(0, n, shape)


def with_ignored(t, index):
    t = t.clone()
    t.view(-1)[1] = index
    return t


def cases():
    yield record("Linear", [5, 3], [exact((2, 4, 5))])
    yield record("Linear", [5, 3], [exact((5,))], {"bias": False})
    yield record("Conv1d", [3, 4, 3], [exact((2, 3, 9))], {"stride": 2, "padding": 2, "dilation": 2})
    yield record("Conv2d", [2, 3, 3], [exact((2, 2, 5, 6))])
    yield record("Conv2d", [4, 6, [3, 2]], [exact((1, 4, 6, 5))],
                 {"stride": [2, 1], "padding": [1, 2], "dilation": [1, 2], "groups": 2})
    yield record("Conv2d", [3, 3, 3], [exact((1, 3, 5, 5))], {"groups": 3, "padding": "same", "bias": False})
    yield record("Conv2d", [2, 2, 4], [exact((1, 2, 5, 6))], {"padding": "same"})
    yield record("Conv2d", [2, 2, 3], [exact((2, 4, 5))], {"padding": "valid"})
    yield record("Conv3d", [2, 2, [2, 3, 2]], [exact((1, 2, 3, 4, 4))], {"padding": [1, 0, 1], "stride": [1, 1, 2]})
    yield record("ConvTranspose1d", [2, 3, 4], [exact((2, 2, 5))], {"stride": 3, "padding": 1, "outputPadding": 2})
    yield record("ConvTranspose2d", [4, 2, 3], [exact((1, 4, 3, 4))],
                 {"stride": 2, "padding": 1, "outputPadding": 1, "groups": 2})
    yield record("ConvTranspose2d", [2, 3, [2, 3]], [exact((2, 2, 3, 3))], {"dilation": [2, 1], "bias": False})
    yield record("MaxPool1d", [3], [exact((2, 2, 9))], {"stride": 2, "padding": 1})
    yield record("MaxPool2d", [[2, 3]], [exact((2, 2, 6, 7))])
    yield record("MaxPool2d", [3], [exact((1, 2, 7, 6))], {"stride": 2, "padding": 1, "ceilMode": True})
    yield record("MaxPool2d", [2], [exact((2, 6, 6))], {"dilation": 2, "stride": 1})
    yield record("AvgPool1d", [3], [exact((2, 2, 9))], {"stride": 2, "padding": 1})
    yield record("AvgPool2d", [3], [exact((1, 2, 6, 7))], {"stride": 2, "padding": 1, "ceilMode": True})
    yield record("AvgPool2d", [3], [exact((1, 2, 6, 7))],
                 {"stride": 2, "padding": 1, "ceilMode": True, "countIncludePad": False})
    yield record("AvgPool3d", [2], [exact((1, 2, 4, 4, 5))])
    yield record("AdaptiveAvgPool1d", [4], [exact((2, 2, 9))])
    yield record("AdaptiveAvgPool2d", [[3, 2]], [exact((1, 2, 7, 5))])
    yield record("AdaptiveAvgPool2d", [1], [exact((2, 4, 5))])
    yield record("Embedding", [6, 3], [classes((2, 4), 6)], {"paddingIdx": 2})
    for name in ["ReLU", "SiLU", "Sigmoid", "Tanh", "GELU"]:
        yield record(name, [], [exact((17,)) * 3])
    yield record("GELU", [], [exact((17,)) * 3], {"approximate": "tanh"})
    yield record("LeakyReLU", [0.2], [exact((17,))])
    yield record("Softmax", [1], [exact((2, 5, 3))])
    yield record("LogSoftmax", [-1], [exact((3, 5))])
    yield record("Flatten", [], [exact((2, 3, 4))])

    four = classes((6,), 4)
    yield record("CrossEntropyLoss", [], [exact((6, 4)), four])
    weight = torch.tensor([0.5, 2.0, 1.0, 1.5])
    yield record("CrossEntropyLoss", [], [exact((6, 4)), with_ignored(four, -100)], {"labelSmoothing": 0.1})
    yield record("CrossEntropyLoss", [], [exact((6, 4)), with_ignored(four, 3)],
                 {"labelSmoothing": 0.2, "ignoreIndex": 3, "weight": weight})
    yield record("CrossEntropyLoss", [], [exact((6, 4)), four], {"weight": weight, "reduction": "none"})
    yield record("CrossEntropyLoss", [], [exact((6, 4)), four], {"labelSmoothing": 0.2, "weight": weight, "reduction": "sum"})
    yield record("CrossEntropyLoss", [], [exact((2, 4, 3, 2)), classes((2, 3, 2), 4)], {"labelSmoothing": 0.1})
    yield record("CrossEntropyLoss", [], [exact((4,)), classes((), 4)])
    shares = torch.softmax(exact((6, 4)), 1)
    yield record("CrossEntropyLoss", [], [exact((6, 4)), shares], {"labelSmoothing": 0.1, "weight": weight})
    yield record("CrossEntropyLoss", [], [exact((6, 4)), shares.detach()], {"reduction": "none"})
    for name in ["MSELoss", "L1Loss", "HuberLoss"]:
        for reduction in ["mean", "sum", "none"]:
            yield record(name, [], [exact((3, 5)), exact((3, 5))], {"reduction": reduction})
    yield record("HuberLoss", [], [exact((3, 5)) * 2, exact((3, 5))], {"delta": 0.6})
    bits = (exact((4, 3)) > 0).double()
    yield record("BCEWithLogitsLoss", [], [exact((4, 3)) * 3, bits])
    yield record("BCEWithLogitsLoss", [], [exact((4, 3)), torch.sigmoid(exact((4, 3)))],
                 {"posWeight": torch.tensor([0.5, 1.0, 3.0]), "weight": torch.tensor([1.0, 2.0, 0.5]), "reduction": "none"})

    x = exact((5, 2, 8))
    yield record("MultiheadAttention", [8, 2], [x, x, x])
    x = exact((2, 5, 8))
    yield record("MultiheadAttention", [8, 4], [x, x, x], {"batchFirst": True, "bias": False}, {"isCausal": True})
    padding = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1]])
    yield record("MultiheadAttention", [6, 3], [exact((2, 3, 6)), exact((2, 4, 6)), exact((2, 4, 6))],
                 {"batchFirst": True}, {"keyPaddingMask": padding, "attnMask": exact((3, 4))})
    barred = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 1]])
    yield record("MultiheadAttention", [6, 2], [exact((3, 2, 6)), exact((4, 2, 5)), exact((4, 2, 7))],
                 {"kdim": 5, "vdim": 7}, {"attnMask": barred})
    yield record("MultiheadAttention", [4, 2], [exact((3, 4)), exact((5, 4)), exact((5, 4))], {}, {"attnMask": exact((2, 3, 5))})


path = pathlib.Path(__file__).with_suffix(".json")
lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases())
path.write_text("[\n" + lines + "\n]\n")
print(path, path.stat().st_size, "bytes")
