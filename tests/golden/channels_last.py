"""Records layers of Keras and Flax by their documented formulas: channels_last.weights.h5, .msgpack and _runs.npz.

Run: python3 tests/golden/channels_last.py          (numpy, h5py, msgpack; neither Keras nor JAX)

Weights are in the layouts of the two frameworks and are written as these write them: Keras 3 numbers a layer's variables in HDF5,
Flax keeps dictionaries of arrays in msgpack. What the layers compute is written out here in float64, with plain loops over
positions and channels last. Runs hold each layer's input and output ("keras conv2d x", "keras conv2d y").
"""

import pathlib

import h5py
import msgpack
import numpy as np

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(20262)


def draw(*shape):
    return np.round(rng.standard_normal(shape) * 64) / 64


def conv(x, kernel, bias=0.0, stride=1, groups=1):
    """y[n, i, j, o] = sum over the window of x kernel[a, b, c, o]: no padding."""
    kh, kw, per_group, outs = kernel.shape
    n, h, w, _ = x.shape
    oh, ow = (h - kh) // stride + 1, (w - kw) // stride + 1
    y = np.zeros((n, oh, ow, outs))
    for o in range(outs):
        first = (o // (outs // groups)) * per_group
        for i in range(oh):
            for j in range(ow):
                window = x[:, i * stride : i * stride + kh, j * stride : j * stride + kw, first : first + per_group]
                y[:, i, j, o] = (window * kernel[:, :, :, o]).sum(axis=(1, 2, 3))
    return y + bias


def depthwise(x, kernel):
    """y[..., c * m + k] = window of channel c with kernel[:, :, c, k]."""
    kh, kw, channels, m = kernel.shape
    n, h, w, _ = x.shape
    y = np.zeros((n, h - kh + 1, w - kw + 1, channels * m))
    for c in range(channels):
        for k in range(m):
            one = conv(x[..., c : c + 1], kernel[:, :, c : c + 1, k : k + 1])
            y[..., c * m + k] = one[..., 0]
    return y


def keras_transposed(x, kernel, bias, stride):
    """The gradient of a convolution: each value of x paints the kernel [kh, kw, out, in] onto the output."""
    kh, kw, outs, _ = kernel.shape
    n, h, w, _ = x.shape
    y = np.zeros((n, (h - 1) * stride + kh, (w - 1) * stride + kw, outs))
    for i in range(h):
        for j in range(w):
            patch = np.einsum("nc,aboc->nabo", x[:, i, j], kernel)
            y[:, i * stride : i * stride + kh, j * stride : j * stride + kw] += patch
    return y + bias


def flax_transposed(x, kernel, bias, stride):
    """A convolution of the input, stretched by zeros between its values and padded by kernel - 1, with kernel [kh, kw, in, out]."""
    kh, kw, _, _ = kernel.shape
    n, h, w, c = x.shape
    stretched = np.zeros((n, (h - 1) * stride + 1 + 2 * (kh - 1), (w - 1) * stride + 1 + 2 * (kw - 1), c))
    stretched[:, kh - 1 : kh - 1 + (h - 1) * stride + 1 : stride, kw - 1 : kw - 1 + (w - 1) * stride + 1 : stride] = x
    return conv(stretched, kernel, bias)


def normalized(x, axes, eps):
    mean = x.mean(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis=axes, keepdims=True) + eps)


def group_norm(x, gamma, beta, groups, eps):
    n, h, w, c = x.shape
    return normalized(x.reshape(n, h, w, groups, c // groups), (1, 2, 4), eps).reshape(x.shape) * gamma + beta


def attention(x, q, qb, k, kb, v, vb, o, ob):
    heads = lambda m, b: np.einsum("nld,dhk->nhlk", x, m) + b[None, :, None, :]
    scores = np.einsum("nhlk,nhsk->nhls", heads(q, qb), heads(k, kb)) / np.sqrt(q.shape[2])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("nhls,nhsk,hkd->nld", weights, heads(v, vb), o) + ob


def batch_norm(x, gamma, beta, mean, variance, eps):
    return (x - mean) / np.sqrt(variance + eps) * gamma + beta


image = (2, 5, 4, 4)
mha = [(6, 2, 3), (2, 3)] * 3 + [(2, 3, 6), (6,)]
projections = ["query", "key", "value"]


def variables(*shapes):
    return [draw(*s) for s in shapes]


def positive(*shape):
    return np.abs(draw(*shape)) + 0.25


def keras_layers():
    bn = variables((4,), (4,), (4,)) + [positive(4)]
    yield "conv2d", variables((3, 2, 4, 5), (5,)), image, lambda x, k, b: conv(x, k, b, stride=2)
    yield "conv2d_1", variables((2, 2, 2, 6), (6,)), image, lambda x, k, b: conv(x, k, b, groups=2)
    yield "conv2d_transpose", variables((3, 2, 5, 4), (5,)), image, lambda x, k, b: keras_transposed(x, k, b, 2)
    yield "depthwise_conv2d", variables((2, 3, 4, 2), (8,)), image, lambda x, k, b: depthwise(x, k) + b
    yield "separable_conv2d", variables((2, 2, 4, 1), (1, 1, 4, 3), (3,)), image, lambda x, d, p, b: conv(depthwise(x, d), p, b)
    yield "batch_normalization", bn, image, lambda x, *v: batch_norm(x, *v, 1e-3)
    yield "layer_normalization", variables((6,), (6,)), (3, 6), lambda x, g, b: normalized(x, (1,), 1e-3) * g + b
    yield "group_normalization", variables((4,), (4,)), image, lambda x, g, b: group_norm(x, g, b, 2, 1e-3)
    yield "rms_normalization", variables((6,)), (3, 6), lambda x, g: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * g
    yield "embedding", variables((7, 4)), None, lambda x, e: e[x]
    yield "dense", variables((5 * 4 * 4, 3), (3,)), image, lambda x, k, b: x.reshape(2, -1) @ k + b
    yield "multi_head_attention", variables(*mha), (2, 5, 6), attention


def flax_layers():
    yield "Conv_0", dict(kernel=draw(3, 2, 4, 5), bias=draw(5)), image, lambda x, kernel, bias: conv(x, kernel, bias, 2)
    yield "ConvTranspose_0", dict(kernel=draw(3, 2, 4, 5), bias=draw(5)), image, lambda x, kernel, bias: flax_transposed(x, kernel, bias, 2)
    bn = dict(scale=draw(4), bias=draw(4), mean=draw(4), var=positive(4))
    yield "BatchNorm_0", bn, image, lambda x, scale, bias, mean, var: batch_norm(x, scale, bias, mean, var, 1e-5)
    yield "LayerNorm_0", dict(scale=draw(6), bias=draw(6)), (3, 6), lambda x, scale, bias: normalized(x, (1,), 1e-6) * scale + bias
    yield "GroupNorm_0", dict(scale=draw(4), bias=draw(4)), image, lambda x, scale, bias: group_norm(x, scale, bias, 2, 1e-6)
    yield "RMSNorm_0", dict(scale=draw(6)), (3, 6), lambda x, scale: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale
    yield "Embed_0", dict(embedding=draw(7, 4)), None, lambda x, embedding: embedding[x]
    yield "Dense_0", dict(kernel=draw(5 * 4 * 4, 3), bias=draw(3)), image, lambda x, kernel, bias: x.reshape(2, -1) @ kernel + bias
    names = [f"{p}/{t}" for p in projections + ["out"] for t in ("kernel", "bias")]
    parts = dict(zip(names, variables(*mha)))
    yield "MultiHeadDotProductAttention_0", parts, (2, 5, 6), lambda x, **v: attention(x, *v.values())


def pack(tree):
    """Arrays as Flax's extension 1: shape, type and bytes."""
    if isinstance(tree, dict):
        return {k: pack(v) for k, v in tree.items()}
    return msgpack.ExtType(1, msgpack.packb((list(tree.shape), tree.dtype.name, tree.tobytes()), use_bin_type=True))


def main():
    runs = {}

    def record(framework, name, shape, compute):
        x = draw(*shape) if shape else rng.integers(0, 7, (2, 3), dtype=np.int32)
        runs[f"{framework} {name} x"], runs[f"{framework} {name} y"] = x, compute(x)

    with h5py.File(here / "channels_last.weights.h5", "w") as file:
        for name, values, shape, formula in keras_layers():
            record("keras", name, shape, lambda x: formula(x, *values))
            if name == "multi_head_attention":
                owners = [f"{p}_dense" for p in projections + ["output"]]
                for i, owner in enumerate(owners):
                    for j in (0, 1):
                        file[f"layers/{name}/{owner}/vars/{j}"] = values[2 * i + j]
            else:
                for i, value in enumerate(values):
                    file[f"layers/{name}/vars/{i}"] = value
    tree = {"params": {}, "batch_stats": {}}
    for name, values, shape, formula in flax_layers():
        record("flax", name, shape, lambda x: formula(x, **values))
        for key, value in values.items():
            branch = tree["batch_stats" if key in ("mean", "var") else "params"].setdefault(name, {})
            *inner, last = key.split("/")
            for part in inner:
                branch = branch.setdefault(part, {})
            branch[last] = value
    (here / "channels_last.msgpack").write_bytes(msgpack.packb(pack(tree), use_bin_type=True))
    np.savez_compressed(here / "channels_last_runs.npz", **runs)
    for end in (".weights.h5", ".msgpack", "_runs.npz"):
        path = here / f"channels_last{end}"
        print(path.name, path.stat().st_size, "bytes")


main()
