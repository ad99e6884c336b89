import { afterEach, describe, expect, test, vi } from "vitest";
import { OptionError } from "../../base/errors.js";
import { heap, type Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import { kernels } from "../dispatch.js";
import { setThreads, startThreads, workersReady } from "../threads/pool.js";
import { findBlas as findInBrowser } from "./find_browser.js";
import { findBlas } from "./find_node.js";
import { getBlas, setBlas } from "./index.js";
import { blas } from "./kernels.js";

const quiet = () => vi.spyOn(console, "warn").mockImplementation(() => {});
const found = (() => {
  const warn = quiet();
  const info = setBlas("auto");
  warn.mockRestore();
  return info;
})();
const plan = (n: number) => ({
  ...{ batch: 1, m: n, n, k: n, transposeA: false, transposeB: false },
  ...{ aBatchStride: 0, bBatchStride: 0, bias: null },
});

afterEach(() => {
  vi.restoreAllMocks();
  setBlas("none");
});

describe("where there is nothing to use, one line says why", () => {
  const koffi = (load: () => never) => Object.assign(() => ({ load }), { resolve: (name: string) => name });

  test("koffi is not installed", () => {
    const require = Object.assign(() => ({}), {
      resolve: (name: string) => {
        throw new Error(`Cannot find module '${name}'\nRequire stack:\n- somewhere`);
      },
    });
    expect(findBlas("auto", require)).toEqual({
      reason: "koffi, which calls native libraries, is not installed: npm install koffi",
    });
  });

  test("koffi does not load on this machine", () => {
    const require = Object.assign(
      () => {
        throw new Error("wrong ELF class\n    at somewhere");
      },
      { resolve: (name: string) => name },
    );
    expect(findBlas("auto", require)).toEqual({
      reason: "koffi is installed but does not load here (wrong ELF class)",
    });
  });

  test("no library is found", () => {
    const require = koffi(() => {
      throw new Error("cannot open shared object file");
    });
    const { reason } = findBlas("auto", require) as { reason: string };
    expect(reason).toMatch(/^no BLAS library was found \(.*openblas.*\): \S+/);
  });

  test("in a browser", () => {
    expect(findInBrowser("auto").reason).toBe("native BLAS works in Node only");
  });

  test.skipIf(!found.library)(`a library by a wrong name, or one that is no BLAS (${found.message})`, () => {
    const warn = quiet();
    const libc = ["libc.so.6", "/usr/lib/libSystem.B.dylib", "msvcrt.dll"];
    const other = libc[["linux", "darwin", "win32"].indexOf(process.platform)]!;
    for (const name of ["libnosuchblas.so", other]) {
      setBlas("auto");
      const info = setBlas(name);
      expect(info.library).toBe(null);
      expect(info.message).toMatch(/^BLAS: not used, \S+ is no BLAS library that can be used \(.+\)$/);
      expect(info.message).toContain(name);
      expect(warn).toHaveBeenLastCalledWith(`evenkeel: ${info.message}`);
      expect(getBlas()).toBe(info);
    }
  });
});

test("a choice that is no text", () => {
  for (const wrong of [5, null, "", " "]) expect(() => setBlas(wrong as string)).toThrow(OptionError);
});

describe.skipIf(!found.library)(`with ${found.message}`, () => {
  test("it is used from setBlas on, and no longer after none", () => {
    const [a, b, y] = [1, 2, 3].map(() => new Storage(64 * 64, "float32")) as [Storage, Storage, Storage];
    const spy = vi.spyOn(blas, "matmul");
    expect(setBlas()).toEqual(found);
    a.view.fill(1);
    b.view.fill(2);
    y.view.fill(-1);
    kernels.matmul(a, b, y, plan(64));
    expect([...y.view].every((v) => v === 128)).toBe(true);
    expect(spy).toHaveBeenCalledTimes(1);
    expect(setBlas("none")).toEqual({ library: null, message: "BLAS: not used" });
    y.view.fill(-1);
    kernels.matmul(a, b, y, plan(64));
    expect([...y.view].every((v) => v === 128)).toBe(true);
    expect(spy).toHaveBeenCalledTimes(1);
    for (const s of [a, b, y]) s.release();
  });

  test("after the heap has grown, in all threads", async () => {
    setBlas();
    setThreads(3);
    startThreads();
    while (workersReady() < 2) await new Promise((resolve) => setTimeout(resolve, 2));
    const n = 256;
    const blocks: number[] = [];
    const fresh = (): Slot => {
      const block = heap.allocate(n * n * 4);
      blocks.push(block);
      return { ptr: heap.address(block), length: n * n, dtype: "float32" };
    };
    for (let round = 0; round < 4; round++) {
      const before = heap.stats.reservedBytes;
      blocks.push(heap.allocate(before - heap.stats.liveBytes));
      const [a, b, y] = [fresh(), fresh(), fresh()];
      expect(heap.stats.reservedBytes).toBeGreaterThan(before);
      heap.view(a).fill(round);
      heap.view(b).fill(2);
      // Several times: the workers need some tens of milliseconds for the library, and take part from then on.
      for (let i = 0; i < 30; i++) {
        heap.view(y).fill(-1);
        kernels.matmul(a, b, y, plan(n));
        expect(heap.view(y).every((v) => v === 2 * round * n)).toBe(true);
        if (round === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    for (const block of blocks) heap.free(block);
  });

  test("the environment is as it was after loading", () => {
    const before = { ...process.env };
    expect(findBlas("auto")).toMatchObject({ library: found.library });
    expect({ ...process.env }).toEqual(before);
  });
});
