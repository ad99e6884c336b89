"""Writes files/numpy_*.np[yz] with numpy: python3 tests/io/record_numpy.py. Last run with numpy 1.24."""
import os
import numpy as np
from numpy.lib import format as npy

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "files")


def ramp(shape, dtype):
    """Element i in row-major order is (7 i mod 23) - 11, a quarter of it for floats, and without a sign its size."""
    i = np.arange(int(np.prod(shape))).reshape(shape)
    v = (7 * i) % 23 - 11
    kind = np.dtype(dtype).kind
    return (v / 4 if kind == "f" else abs(v) if kind == "u" else v % 3 == 0 if kind == "b" else v).astype(dtype)


codes = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1"]
arrays = {f"{order}{code}": ramp((2, 3, 4), order + code) for code in codes for order in "<>" if order == "<" or int(code[1]) > 1}
arrays.update({f"rank {n}": ramp(tuple(range(2, 2 + n)), "f4") for n in range(6)})
arrays.update({f"fortran {code}": np.asfortranarray(ramp((3, 4, 2), code)) for code in ["f4", ">f8", "i2"]})
arrays.update({f"empty {n}": np.zeros(shape, "f4") for n, shape in enumerate([(0,), (3, 0, 2), (0, 0)])})
arrays["__proto__"] = ramp((2,), "f4")
arrays["größe.中"] = ramp((2,), "f4")
special = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1e-40, 65504, 65520, 6e-8, 1 / 3]
for code in ["f2", "f4", "f8"]:
    with np.errstate(over="ignore"):
        arrays[f"special {code}"] = np.array(special).astype(code)

np.savez(f"{here}/numpy_stored.npz", **arrays)
np.savez_compressed(f"{here}/numpy_deflated.npz", **arrays)
for version in [(2, 0), (3, 0)]:
    with open(f"{here}/numpy_v{version[0]}.npy", "wb") as file:
        npy.write_array(file, ramp((2, 3), "f4"), version=version)
for code in ["f8", "f4", "f2", "i8", "i4", "u1", "b1"]:
    np.save(f"{here}/numpy_{code}.npy", ramp((2, 3, 4), "<" + code if code not in ["u1", "b1"] else code))
np.save(f"{here}/numpy_scalar.npy", ramp((), "f4"))
np.save(f"{here}/numpy_vector.npy", ramp((5,), "f4"))
np.save(f"{here}/numpy_object.npy", np.array([{}, None], dtype=object))
np.save(f"{here}/numpy_structure.npy", np.zeros(2, dtype=[("a", "f4"), ("b", "i4", (2,))]))
np.save(f"{here}/numpy_complex.npy", np.zeros(2, dtype="c8"))
np.save(f"{here}/numpy_text.npy", np.array(["a", "bc"]))
np.save(f"{here}/numpy_dates.npy", np.array(["2020-01-01"], dtype="M8[s]"))
