"""Writes files/recorded*.safetensors from the format's description with numpy alone: python3 tests/io/record_safetensors.py.

Also reads files that Evenkeel wrote, and prints what is in them: python3 tests/io/record_safetensors.py FILE...
"""
import json
import os
import sys
import numpy as np

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "files")
codes = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
         "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}


def bfloat16(v):
    """The upper halves of float32, rounded to even."""
    bits = v.astype("<f4").view("<u4").astype("u8")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def ramp(shape, code):
    """Element i in row-major order is (7 i mod 23) - 11, a quarter of it for floats, and without a sign its size."""
    i = np.arange(int(np.prod(shape))).reshape(shape)
    v = (7 * i) % 23 - 11
    if code == "BF16":
        return bfloat16(v / 4)
    return (v / 4 if code[0] == "F" else abs(v) if code[0] == "U" else v % 3 == 0 if code == "BOOL" else v).astype(codes[code])


def write(name, tensors, metadata=None, order=None, pad=8, separators=None):
    """`order` is that of the numbers; the header has that of `tensors`."""
    header, places, at = {}, {}, 0
    for key in order or tensors:
        size = tensors[key][1].nbytes
        places[key] = [at, at + size]
        at += size
    if metadata is not None:
        header["__metadata__"] = metadata
    for key, (code, array) in tensors.items():
        header[key] = {"dtype": code, "shape": list(array.shape), "data_offsets": places[key]}
    text = json.dumps(header, separators=separators, ensure_ascii=False).encode()
    text += b" " * (-len(text) % pad)
    with open(f"{here}/{name}.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in order or tensors:
            file.write(tensors[key][1].tobytes())


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    print(path, "header", length, header.pop("__metadata__", None))
    for key, info in header.items():
        begin, end = info["data_offsets"]
        raw = data[8 + length + begin:8 + length + end]
        array = np.frombuffer(raw, "<u2" if info["dtype"] == "BF16" else codes[info["dtype"]]).reshape(info["shape"])
        assert begin % array.itemsize == 0, "not aligned"
        print(repr(key), info["dtype"], array.shape, array.ravel()[:8].tolist())


if len(sys.argv) > 1:
    for path in sys.argv[1:]:
        read(path)
    sys.exit()

every = {code: (code, ramp((2, 3, 4), code)) for code in [*codes, "BF16"]}
every.update({f"rank {n}": ("F32", ramp(tuple(range(2, 2 + n)), "F32")) for n in range(6)})
every.update({f"empty {n}": ("F32", np.zeros(shape, "<f4")) for n, shape in enumerate([(0,), (3, 0, 2)])})
every.update({name: ("F32", ramp((2,), "F32")) for name in ["", "__proto__", "größe.中", "a\"b\\c\n"]})
write("recorded", every, {"format": "pt", "note": "größe"})
# Numbers in another order than names, no padding (numbers are not aligned then), spaces in the header.
two = {"b": ("F64", ramp((3,), "F64")), "a": ("U8", ramp((3,), "U8")), "c": ("F32", ramp((2, 2), "F32"))}
write("recorded_loose", two, order=["a", "c", "b"], pad=1, separators=(" , ", " : "))
write("recorded_empty", {}, pad=1)
