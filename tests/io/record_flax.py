"""Records files/flax_*.msgpack with Python's msgpack, packed as flax.serialization.to_bytes packs a tree (the extension types and
the pieces of large arrays are those of its documentation), and files/flax_expected.json. Without arguments it records; with the
path of a file it prints what msgpack_restore would give, as JSON: how the tests check what is written here.

    /usr/bin/python3 tests/io/record_flax.py
"""

import json
import pathlib
import sys

import msgpack
import numpy as np

folder = pathlib.Path(__file__).parent / "files"


class Named:
    """An array of a type that numpy does not have."""

    def __init__(self, shape, dtype, data):
        self.shape, self.dtype, self.data = shape, dtype, data


def packed_array(array):
    if isinstance(array, Named):
        return msgpack.packb((array.shape, array.dtype, array.data), use_bin_type=True)
    return msgpack.packb((array.shape, array.dtype.name, array.tobytes("C")), use_bin_type=True)


def pack(value):
    if isinstance(value, (np.ndarray, Named)):
        return msgpack.ExtType(1, packed_array(value))
    if isinstance(value, complex):
        return msgpack.ExtType(2, msgpack.packb((value.real, value.imag)))
    if isinstance(value, np.generic):
        return msgpack.ExtType(3, packed_array(np.asarray(value)))
    return value


def chunked(array, size):
    flat = array.reshape(-1)
    chunks = [flat[i : i + size] for i in range(0, flat.size, size)]
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(i): n for i, n in enumerate(array.shape)},
        "chunks": {str(i): chunk for i, chunk in enumerate(chunks)},
    }


def restored(bytes_):
    def unpack(code, data):
        if code == 2:
            return complex(*msgpack.unpackb(data))
        shape, dtype, buffer = msgpack.unpackb(data, raw=True)
        if dtype == b"bfloat16":
            wide = np.frombuffer(buffer, dtype="uint16").astype("uint32") << 16
            return wide.view("float32").reshape(shape)
        return np.frombuffer(buffer, dtype=np.dtype(dtype.decode())).reshape(shape)

    def whole(tree):
        if not isinstance(tree, dict):
            return tree
        if "__msgpack_chunked_array__" in tree:
            shape = tuple(tree["shape"][str(i)] for i in range(len(tree["shape"])))
            return np.concatenate([tree["chunks"][str(i)] for i in range(len(tree["chunks"]))]).reshape(shape)
        return {key: whole(value) for key, value in tree.items()}

    return whole(msgpack.unpackb(bytes_, ext_hook=unpack, raw=False))


def described(tree, name=""):
    found = {}
    for key, value in tree.items():
        path = f"{name}/{key}" if name else key
        if isinstance(value, dict):
            found.update(described(value, path))
        elif isinstance(value, np.ndarray):
            data = value.astype("float64" if value.dtype.kind == "f" else "int64").ravel().tolist()
            found[path] = {"shape": list(value.shape), "type": value.dtype.name, "data": data}
    return found


def record():
    random = np.random.default_rng(7)

    def normal(*shape, dtype="float32"):
        return random.standard_normal(shape).astype(dtype)

    types = ("float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    bits = random.integers(0, 2**16, 12, dtype="uint16") & 0x7F7F
    tree = {
        "step": 1200,
        "time": 0.25,
        "opt_state": {"0": None, "1": {"count": np.int32(17), "mu": {"params": {"Dense_0": {"kernel": normal(4, 3)}}}}},
        "params": {
            "Conv_0": {"kernel": normal(3, 3, 2, 4), "bias": normal(4)},
            "BatchNorm_0": {"scale": normal(4), "bias": normal(4)},
            "Dense_0": {"kernel": normal(4, 3), "bias": normal(3)},
            "Embed_0": {"embedding": chunked(normal(7, 5), 9)},
            "types": {dtype: random.integers(0, 100, 5).astype(dtype) for dtype in types},
            "flags": random.random(9) < 0.5,
            "empty": normal(0, 3),
            "scalar": np.array(0.5, dtype="float32"),
            "bfloat16": Named((3, 4), "bfloat16", bits.tobytes()),
            "long": normal(70, 31),
            "__proto__": {"constructor": normal(2)},
            # Enough keys for the longer forms of maps and texts.
            **{f"layer_with_a_name_of_more_than_thirty_one_bytes_{i}": normal(1) for i in range(40)},
        },
        "batch_stats": {"BatchNorm_0": {"mean": normal(4), "var": np.abs(normal(4))}},
        "about": "trained",
        "phase": 1 + 2j,
    }
    file = msgpack.packb(tree, default=pack, strict_types=True)
    (folder / "flax_state.msgpack").write_bytes(file)
    expected = described(restored(file))
    expected["params/bfloat16"]["type"] = "bfloat16"
    (folder / "flax_expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


if len(sys.argv) > 1:
    print(json.dumps(described(restored(pathlib.Path(sys.argv[1]).read_bytes()))))
else:
    record()
