"""Records the files of keras.test.ts with h5py: laid out as Keras 3 (.weights.h5, .keras), Keras 2 and Keras 1 (.h5) write them,
and files with what HDF5 can hold besides. Prints nothing; writes files/keras_* and files/keras_expected.json.

    /usr/bin/python3 tests/io/record_keras.py
"""

import io
import json
import pathlib
import zipfile

import h5py
import numpy as np

folder = pathlib.Path(__file__).parent / "files"
random = np.random.default_rng(20240607)
expected = {}
types = {"float16": "float16", "float32": "float32", "float64": "float64", "bool": "bool"}


def numbers(*shape, dtype="float32"):
    if dtype == "bool":
        return random.random(shape) < 0.5
    if dtype.startswith(("int", "uint")):
        info = np.iinfo(np.int32 if dtype in ("int32", "int64") else dtype)
        low = 0 if dtype.startswith("uint") else info.min
        return random.integers(low, min(info.max, 2**31 - 1), shape, dtype=dtype, endpoint=True)
    return random.standard_normal(shape).astype(dtype)


def expect(file, name, value):
    value = np.asarray(value)
    kind = value.dtype.newbyteorder("=").name
    data = value.astype("float64" if value.dtype.kind == "f" else "int64").ravel().tolist()
    expected.setdefault(file, {})[name] = {"shape": list(value.shape), "type": kind, "data": data}


def layer(h5, file, path, values, name=None, **storage):
    group = h5.create_group(path + "/vars" if path else "vars")
    if name:
        group.attrs["name"] = name
    for i, value in enumerate(values):
        if np.asarray(value).ndim == 0:
            group[str(i)] = value
        else:
            group.create_dataset(str(i), data=value, **storage)
        expect(file, f"{path}/vars/{i}" if path else f"vars/{i}", value)


def batch_norm(n):
    return [numbers(n), numbers(n), numbers(n), np.abs(numbers(n))]


def keras3_weights():
    file = "v3.weights.h5"
    with h5py.File(folder / f"keras_{file}", "w") as h5:
        layer(h5, file, "", [])
        layer(h5, file, "layers/conv2d", [numbers(3, 3, 2, 4), numbers(4)], "first")
        layer(h5, file, "layers/conv2d_1", [numbers(1, 1, 4, 5)], "second", chunks=True, compression="gzip", shuffle=True)
        layer(h5, file, "layers/batch_normalization", batch_norm(4), "bn", chunks=(3,), fletcher32=True)
        layer(h5, file, "layers/batch_normalization_1", batch_norm(5)[2:], "bn_plain")
        layer(h5, file, "layers/layer_normalization", [numbers(7), numbers(7)], "ln")
        layer(h5, file, "layers/lstm", [], "lstm")
        layer(h5, file, "layers/lstm/cell", [numbers(5, 12), numbers(3, 12), numbers(12)], "lstm_cell")
        # More than ten, so that their order by name is not that by number.
        layer(h5, file, "layers/odd", [numbers(k + 1, 2) for k in range(12)], "odd")
        layer(
            h5, file, "layers/types",
            [numbers(6, dtype=d) for d in ("float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool")]
            + [np.float32(0.5), numbers(0, 3), numbers(4).astype(">f4"), numbers(4).astype(">i2")],
        )
        layer(h5, file, "optimizer", [np.int64(17), np.float32(1e-3), numbers(3, 3, 2, 4)], "adam")
        # ml_dtypes' bfloat16 is to h5py two bytes that mean nothing, and Keras notes the type beside them.
        halves = numbers(3, 5)
        bits = (halves.view("uint32") >> 16).astype("uint16")
        brain = h5["layers/types/vars"].create_dataset("13", data=bits.view("V2"))
        brain.attrs["dtype"] = "bfloat16"
        expect(file, "layers/types/vars/13", (bits.astype("uint32") << 16).view("float32"))
        expected[file]["layers/types/vars/13"]["type"] = "bfloat16"


def dense(name, units, **more):
    return {"module": "keras.layers", "class_name": "Dense", "config": {"name": name, "units": units, "use_bias": True, **more}}


def of(class_name, name, **more):
    return {"module": "keras.layers", "class_name": class_name, "config": {"name": name, **more}}


def keras3_archive():
    file = "v3.keras"
    encoder = of("Functional", "encoder", layers=[of("InputLayer", "in"), dense("inner", 3), dense("inner_bias_free", 2, use_bias=False)])
    config = of(
        "Sequential", "net",
        layers=[
            of("InputLayer", "input_layer_9"),
            of("Conv2D", "stem", filters=4, use_bias=False),
            of("BatchNormalization", "stem_bn", axis=-1, momentum=0.9, epsilon=0.002, center=True, scale=False),
            of("GroupNormalization", "groups", groups=2, axis=-1, epsilon=0.001, center=True, scale=True),
            of("SpectralNormalization", "sn", power_iterations=1, layer=dense("wrapped", 2)),
            encoder,
            of("LayerNormalization", "rms", axis=-1, epsilon=1e-6, center=True, scale=True, rms_scaling=True),
            of("Bidirectional", "both", layer=of("LSTM", "one", units=2, use_bias=True), backward_layer=of("GRU", "other", units=2)),
            of("MultiHeadAttention", "attention", num_heads=2, key_dim=2, use_bias=True),
            dense("head", 4),
        ],
    )
    weights = io.BytesIO()
    with h5py.File(weights, "w") as h5:
        layer(h5, file, "", [])
        layer(h5, file, "layers/conv2d", [numbers(3, 3, 1, 4)])
        layer(h5, file, "layers/batch_normalization", [numbers(4), numbers(4), np.abs(numbers(4))])
        layer(h5, file, "layers/group_normalization", [numbers(4), numbers(4)])
        layer(h5, file, "layers/spectral_normalization", [numbers(1, 2)])
        layer(h5, file, "layers/spectral_normalization/layer", [numbers(4, 2), numbers(2)])
        layer(h5, file, "layers/functional", [])
        layer(h5, file, "layers/functional/layers/dense", [numbers(4, 3), numbers(3)])
        layer(h5, file, "layers/functional/layers/dense_1", [numbers(3, 2)])
        layer(h5, file, "layers/layer_normalization", [numbers(2)])
        layer(h5, file, "layers/bidirectional/forward_layer/cell", [numbers(2, 8), numbers(2, 8), numbers(8)])
        layer(h5, file, "layers/bidirectional/backward_layer/cell", [numbers(2, 6), numbers(2, 6), numbers(2, 6)])
        for part in ("key", "output", "query", "value"):
            layer(h5, file, f"layers/multi_head_attention/{part}_dense", [numbers(4, 2, 2), numbers(2, 2)])
        layer(h5, file, "layers/dense", [numbers(2, 4), numbers(4)])
    with zipfile.ZipFile(folder / f"keras_{file}", "w") as archive:
        def add(name, data):
            archive.writestr(zipfile.ZipInfo(name, (2024, 6, 7, 0, 0, 0)), data)

        add("metadata.json", json.dumps({"keras_version": "3.3.3", "date_saved": "2024-06-07@00:00:00"}))
        add("config.json", json.dumps(config))
        add("model.weights.h5", weights.getvalue())


def weights_group(group, layers, file, prefix, cut=None):
    names = [name.encode() for name, _ in layers]
    if cut:
        for i in range(0, len(names), cut):
            group.attrs[f"layer_names{i // cut}"] = names[i : i + cut]
    else:
        group.attrs["layer_names"] = names
    group.attrs["backend"] = b"tensorflow"
    group.attrs["keras_version"] = b"2.11.0"
    for name, weights in sorted(layers, key=lambda entry: entry[0]):
        sub = group.create_group(name)
        sub.attrs["weight_names"] = [weight.encode() for weight, _ in weights]
        for weight, value in weights:
            sub.create_dataset(weight, data=value)


def norm_weights(prefix, n):
    return [(f"{prefix}/{v}:0", value) for v, value in zip(("gamma", "beta", "moving_mean", "moving_variance"), batch_norm(n))]


def keras2_model():
    file = "v2_model.h5"
    layers = [
        ("input_1", []),
        ("conv2d_1", [("conv2d_1/kernel:0", numbers(3, 3, 1, 4)), ("conv2d_1/bias:0", numbers(4))]),
        ("batch_normalization_1", norm_weights("batch_normalization_1", 4)),
        ("a_model", [("dense/kernel:0", numbers(4, 3)), ("dense/bias:0", numbers(3))]),
        # Another variable of the same name, as models within models have them.
        ("b_model", [("dense/kernel:0", numbers(3, 2)), ("dense/bias:0", numbers(2))]),
    ]
    config = {
        "class_name": "Functional",
        "config": {"name": "model", "layers": [
            {"class_name": "InputLayer", "name": "input_1", "config": {"name": "input_1"}, "inbound_nodes": []},
            {"class_name": "Conv2D", "name": "conv2d_1", "config": {"name": "conv2d_1", "filters": 4}, "inbound_nodes": []},
            {"class_name": "BatchNormalization", "name": "batch_normalization_1", "inbound_nodes": [],
             "config": {"name": "batch_normalization_1", "axis": [3], "momentum": 0.99, "epsilon": 0.001}},
            {"class_name": "Sequential", "name": "a_model", "inbound_nodes": [],
             "config": {"name": "a_model", "layers": [{"class_name": "Dense", "config": {"name": "dense", "units": 3}}]}},
            {"class_name": "Sequential", "name": "b_model", "config": {"name": "b_model", "layers": []}, "inbound_nodes": []},
        ]},
    }
    with h5py.File(folder / f"keras_{file}", "w") as h5:
        h5.attrs["model_config"] = json.dumps(config)
        h5.attrs["keras_version"] = "2.11.0"
        h5.attrs["backend"] = "tensorflow"
        group = h5.create_group("model_weights")
        weights_group(group, layers, file, "")
        top = group.create_group("top_level_model_weights")
        top.attrs["weight_names"] = np.array([], dtype="S1")
        step = np.int64(123)
        h5["optimizer_weights/Adam/iter:0"] = step
    for name, weights in layers:
        for weight, value in weights:
            expect(file, f"{name}/{weight}" if name.endswith("model") else weight, value)
    expect(file, "optimizer_weights/Adam/iter:0", step)


def keras2_weights():
    file = "v2_weights.h5"
    layers = [(f"dense_{i}", [(f"dense_{i}/kernel:0", numbers(i, 2)), (f"dense_{i}/bias:0", numbers(2))]) for i in range(1, 12)]
    with h5py.File(folder / f"keras_{file}", "w") as h5:
        weights_group(h5, layers, file, "", cut=4)
    for _, weights in layers:
        for weight, value in weights:
            expect(file, weight, value)


def keras1_weights():
    file = "v1_weights.h5"
    layers = [
        ("convolution2d_1", [("convolution2d_1_W", numbers(3, 3, 1, 2)), ("convolution2d_1_b", numbers(2))]),
        ("batchnormalization_1", [(f"batchnormalization_1_{v}", numbers(2)) for v in ("gamma", "beta", "running_mean", "running_std")]),
    ]
    with h5py.File(folder / f"keras_{file}", "w") as h5:
        weights_group(h5, layers, file, "")
    for _, weights in layers:
        for weight, value in weights:
            expect(file, weight, value)


def odd_things():
    """What a file can hold that is no tensor, or that is not read."""
    file = "odd.weights.h5"
    with h5py.File(folder / f"keras_{file}", "w", libver="latest") as h5:
        layer(h5, file, "layers/dense", [numbers(2, 3), numbers(3)])
        group = h5["layers"]
        group["rest"] = h5["layers/dense"]
        group["dense/vars/up"] = group
        group["soft"] = h5py.SoftLink("/layers/dense")
        group["hanging"] = h5py.SoftLink("/nowhere")
        group["outside"] = h5py.ExternalLink("/etc/passwd", "/x")
        group["words"] = np.array(["one", "two"], dtype=h5py.string_dtype())
        group["pairs"] = np.zeros(3, dtype=[("a", "f4"), ("b", "i4")])
        group["reference"] = np.array([group.ref], dtype=h5py.ref_dtype)
        group["ragged"] = np.array([np.arange(2), np.arange(3)], dtype=h5py.vlen_dtype("int32"))
        group["complex"] = np.zeros(2, dtype="complex64")
        group["nothing"] = h5py.Empty("float32")
        group["type"] = np.dtype("float32")
        group.create_dataset("lzf", data=numbers(40, 40), chunks=True, compression="lzf")
        layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
        layout[:] = h5py.VirtualSource("elsewhere.h5", "data", shape=(4,))
        group.create_virtual_dataset("virtual", layout)
        group.create_dataset("external", shape=(4,), dtype="f4", external=[("elsewhere.bin", 0, 16)])
        # Groups of the newer kind, whose links lie in a heap of their own.
        many = h5.create_group("layers/many/vars", track_order=True)
        for i in range(30):
            value = numbers(i % 3 + 1)
            many[str(i)] = value
            expect(file, f"layers/many/vars/{i}", value)


def small_ones():
    """A few objects each, for the test that changes files: what is changed is mostly structure."""
    with h5py.File(folder / "keras_small_v3.weights.h5", "w") as h5:
        h5.create_group("vars")
        layer(h5, "", "layers/dense", [numbers(6, 5), numbers(5)], "dense", chunks=True, compression="gzip", shuffle=True)
        layer(h5, "", "layers/layer_normalization", [numbers(5)], chunks=(2,), fletcher32=True)
        h5["layers/loop"] = h5["layers"]
        h5["layers/other"] = h5py.SoftLink("/layers/dense")
    with h5py.File(folder / "keras_small_v2.h5", "w") as h5:
        h5.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"name": "s", "layers": []}})
        weights_group(h5.create_group("model_weights"), [("bn", norm_weights("bn", 3))], "", "")
    with h5py.File(folder / "keras_small_latest.h5", "w", libver="latest") as h5:
        group = h5.create_group("layers/many/vars", track_order=True)
        for i in range(9):
            group[str(i)] = numbers(2)
        for i, storage in enumerate(({"maxshape": (None,)}, {"maxshape": (None, None)}, {"compression": "gzip"})):
            shape = (7, 3) if i == 1 else (9,)
            group.create_dataset(f"chunked{i}", data=numbers(*shape), chunks=True, **storage)
        group["outside"] = h5py.ExternalLink("elsewhere.h5", "/x")
    # 8 MiB that deflate makes small.
    with h5py.File(folder / "keras_zeros.h5", "w") as h5:
        h5.create_dataset("zeros", data=np.zeros((2048, 1024), "float32"), chunks=(256, 1024), compression="gzip", compression_opts=9)
    expected.pop("")


for record in (small_ones, keras3_weights, keras3_archive, keras2_model, keras2_weights, keras1_weights, odd_things):
    record()
(folder / "keras_expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
