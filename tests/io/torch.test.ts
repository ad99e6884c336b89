import { readFileSync } from "node:fs";
import { zipSync } from "fflate";
import { describe, expect, it } from "vitest";
import { FormatError, nn, scope, type Tensor } from "../../src/index.js";
import { loadTorch, openTorch } from "../../src/io/index.js";

const recorded = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`files/torch_${name}.pt`, import.meta.url)));

/** What record_torch.py calls a ramp. */
function ramp(size: number, type = "float32"): number[] {
  return Array.from({ length: size }, (_, i) => {
    const v = ((7 * i) % 23) - 11;
    if (type === "bool") return Number(v % 3 === 0);
    return (type.includes("float") ? v / 4 : type === "uint8" ? Math.abs(v) : v) + 0;
  });
}
const values = (t: Tensor): number[] => [...t.dataSync()].map((v) => v + 0);

describe("checkpoints of PyTorch", () => {
  for (const name of ["tensors", "protocol4"]) {
    it(`torch_${name}.pt: every type, and views of shared storages in any order`, () => {
      scope(() => {
        const all = loadTorch(recorded(name));
        const types = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"];
        for (const type of types) {
          const t = all[type]!;
          expect([t.shape, values(t)], type).toEqual([[2, 3], ramp(6, type)]);
          expect(t.dtype).toBe(type === "float64" ? "float64" : type.includes("float") ? "float32" : "int32");
        }
        const whole = ramp(24);
        const picked = (shape: number[], places: number[], from = whole): [number[], number[]] => [
          shape,
          places.map((i) => from[i]!),
        ];
        const wanted: Record<string, [number[], number[]]> = {
          "rank 0": [[], ramp(1)],
          "rank 5": [[1, 2, 3, 1, 2], ramp(12)],
          empty: [[0, 3], []],
          whole: [[4, 6], whole],
          same: [[4, 6], whole],
          transposed: picked([4, 3], [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11], ramp(12)),
          permuted: picked(
            [4, 2, 3],
            [0, 1, 2, 3].flatMap((c) => [0, 1].flatMap((a) => [0, 1, 2].map((b) => 12 * a + 4 * b + c))),
          ),
          "row 2": picked([6], [12, 13, 14, 15, 16, 17]),
          "column 3": picked([4], [3, 9, 15, 21]),
          "every other": picked([2, 2], [6, 9, 18, 21]),
          parameter: [[3], ramp(3)],
          "größe.中": [[2], ramp(2)],
        };
        for (const [key, [shape, numbers]] of Object.entries(wanted)) {
          expect([all[key]!.shape, values(all[key]!)], key).toEqual([shape, numbers]);
        }
        expect(values(Object.getOwnPropertyDescriptor(all, "__proto__")!.value)).toEqual(ramp(2));
        expect(Object.keys(all)).toHaveLength(types.length + Object.keys(wanted).length + 1);
      });
    });
  }

  it("joins the names of a nested checkpoint, and reads a part of it by key", async () => {
    const file = await openTorch(recorded("checkpoint"));
    expect(Object.fromEntries(file.metadata)).toMatchObject({
      epoch: "3",
      best: "0.25",
      name: "bn",
      done: "false",
      nothing: "null",
      large: "1099511627776",
      "sizes.0": "1",
      "sizes.1.1": "3",
      "shape.1": "5",
      dtype: "torch.float16",
      "optimizer_state_dict.param_groups.0.lr": "0.01",
      "optimizer_state_dict.param_groups.0.params.3": "3",
    });
    expect(file.tensors.get("model_state_dict.1.num_batches_tracked")).toEqual({ shape: [], type: "int64" });
    expect(file.tensors.get("optimizer_state_dict.state.0.exp_avg")).toEqual({ shape: [2, 3], type: "float32" });
    scope(() => {
      const model = new nn.Sequential(new nn.Linear(3, 2), new nn.BatchNorm1d(2));
      model.loadStateDict(loadTorch(recorded("checkpoint"), { key: "model_state_dict" }));
      expect(model.stateDict()["1.num_batches_tracked"]!.item()).toBe(1);
      model.dispose();
      expect(values(loadTorch(recorded("single")).tensor!)).toEqual(ramp(4));
    });
    expect(() => loadTorch(recorded("checkpoint"), { key: "model" })).toThrow(
      /one with model_state_dict, optimizer_state_dict/,
    );
    expect(() => loadTorch(recorded("checkpoint"), { key: "model_statedict" })).toThrow(
      /Did you mean "model_state_dict"/,
    );
    expect(() => loadTorch(recorded("checkpoint"), { part: "model" } as never)).toThrow(/has the options key/);
  });

  it("loads every normalization layer of torch, which then gives torch's outputs", () => {
    const layers: Record<string, nn.Module> = {
      bn1: new nn.BatchNorm1d(4),
      bn2: new nn.BatchNorm2d(3, { eps: 1e-3, momentum: 0.3 }),
      bn3: new nn.BatchNorm3d(2),
      bn_plain: new nn.BatchNorm2d(3, { affine: false }),
      bn_untracked: new nn.BatchNorm1d(3, { trackRunningStats: false }),
      bn_cumulative: new nn.BatchNorm1d(3, { momentum: null }),
      in1: new nn.InstanceNorm1d(3, { affine: true }),
      in2: new nn.InstanceNorm2d(3, { affine: true, trackRunningStats: true }),
      in3: new nn.InstanceNorm3d(2),
      gn: new nn.GroupNorm(2, 6),
      ln: new nn.LayerNorm(5),
      ln2: new nn.LayerNorm([3, 4], { eps: 1e-6 }),
      lrn: new nn.LocalResponseNorm(3),
      weight: nn.weightNorm(new nn.Linear(4, 3)),
      spectral: nn.spectralNorm(new nn.Linear(4, 3)),
    };
    let worst = 0;
    let seen = 0;
    scope(() => {
      const file = recorded("norms");
      const [state, inputs, outputs] = ["model_state_dict", "inputs", "outputs"].map((key) =>
        loadTorch(file, { key }),
      ) as [Record<string, Tensor>, Record<string, Tensor>, Record<string, Tensor>];
      for (const [name, layer] of Object.entries(layers)) {
        const own = Object.entries(state).filter(([key]) => key.startsWith(`${name}.`));
        layer.loadStateDict(Object.fromEntries(own.map(([key, t]) => [key.slice(name.length + 1), t])));
        seen += own.length;
        layer.eval();
        const forward = layer as unknown as { forward(x: Tensor): Tensor };
        const y = values(forward.forward(inputs[name]!));
        const wanted = values(outputs[name]!);
        const error = Math.max(...y.map((v, i) => Math.abs(v - wanted[i]!)));
        // Both compute in float32 with sums in another order: a few units in the last place of numbers up to 4.
        expect(error, name).toBeLessThan(2e-6);
        worst = Math.max(worst, error);
      }
      expect(seen).toBe(Object.keys(state).length);
    });
    for (const layer of Object.values(layers)) layer.dispose();
    console.info(
      `torch norms: ${Object.keys(layers).length} layers, ${seen} tensors, largest error ${worst.toExponential(2)}`,
    );
  });

  it("passes by what stands beside the part that is read, and names what it is where it is read", () => {
    // Of classes that were never made: Namespace, numbers and arrays of NumPy, a subclass of dict, sets, a module, complex numbers.
    const state = scope(() => {
      const { weight, bias } = loadTorch(recorded("training"), { key: "state_dict" });
      return [weight!.shape, values(weight!), values(bias!)];
    });
    expect(state).toEqual([[2, 3], ramp(6), ramp(2)]);
    expect(() => loadTorch(recorded("training"))).toThrow(
      /got argparse.Namespace \(.*\)\. Read the part that is wanted: \{ key: "state_dict" \}/,
    );
    const parts: [string, string][] = [
      ...([
        ["args", "argparse.Namespace"],
        ["args.lr", "argparse.Namespace"],
        ["best", "scalar"],
      ] as [string, string][]),
      ...([
        ["config", "Config"],
        ["counts", "defaultdict"],
        ["names", "set"],
      ] as [string, string][]),
      ...([
        ["loss", "CrossEntropyLoss"],
        ["freqs", "torch.ComplexFloatStorage"],
      ] as [string, string][]),
    ];
    for (const [key, name] of parts) {
      expect(() => loadTorch(recorded("training"), { key }), key).toThrow(FormatError);
      expect(() => loadTorch(recorded("training"), { key }), key).toThrow(name);
    }
  });

  const refused: [string, RegExp][] = [
    [
      "object",
      /anything else would have to be executed; got argparse.Namespace .*Save model.state_dict\(\) alone, or convert/,
    ],
    ["module", /got torch.nn.modules/],
    ["old", /PyTorch 1.6 and later.*got one of an older PyTorch.*save it again/],
    ["script", /TorchScript/],
  ];
  for (const [name, message] of refused) {
    it(`refuses torch_${name}.pt by name`, () => {
      expect(() => loadTorch(recorded(name))).toThrow(message);
      expect(() => loadTorch(recorded(name))).toThrow(FormatError);
    });
  }
});

/** A checkpoint of a pickle in pickletools' opcodes, and storages. */
function checkpoint(opcodes: string | Uint8Array, storages: Record<string, number> = {}): Uint8Array {
  const pickle = typeof opcodes === "string" ? Uint8Array.from(opcodes, (c) => c.charCodeAt(0)) : opcodes;
  const data = Object.entries(storages).map(([key, bytes]) => [`a/data/${key}`, new Uint8Array(bytes)] as const);
  return zipSync({ "a/data.pkl": pickle, ...Object.fromEntries(data) }, { level: 0 });
}

const text = (s: string): string => `X${String.fromCharCode(s.length, 0, 0, 0)}${s}`;
const whole = (n: number): string => `J${String.fromCharCode(n & 255, (n >> 8) & 255, (n >> 16) & 255, n >>> 24)}`;
const storage = (key: string, length: number, type = "FloatStorage"): string =>
  `(${text("storage")}ctorch\n${type}\n${text(key)}${text("cpu")}${whole(length)}tQ`;
const rebuilt = (store: string, offset: number, shape: number[], strides: number[]): string =>
  `ctorch._utils\n_rebuild_tensor_v2\n(${store}${whole(offset)}(${shape.map(whole).join("")}t(${strides.map(whole).join("")}t\x89NtR`;
const dict = (...entries: [string, string][]): string => `}(${entries.map(([k, v]) => text(k) + v).join("")}u.`;

describe("hostile checkpoints", () => {
  it("is written here as PyTorch reads it", () => {
    const file = checkpoint(dict(["a", rebuilt(storage("0", 6), 1, [2, 2], [1, 2])]), { 0: 24 });
    expect(scope(() => loadTorch(file).a!.shape)).toEqual([2, 2]);
    // An empty view of the end of a tensor keeps its offset, which torch lets lie beyond the storage.
    const empty = checkpoint(dict(["a", rebuilt(storage("0", 6), 9, [2, 0], [3, 1])]), { 0: 24 });
    expect(scope(() => loadTorch(empty).a!.shape)).toEqual([2, 0]);
  });

  const wrong: [string, string, RegExp, Record<string, number>?][] = [
    ["a system call", "cos\nsystem\n(X\x02\0\0\0lstR.", /executed; got os.system/],
    ["a call by a name from the stack", "\x8c\x05posix\x8c\x06system\x93)R.", /got posix.system/],
    [
      "a call of a type",
      dict(["a", "ctorch\nFloatStorage\n)R"]),
      /Functions that make tensors are called; got torch.FloatStorage/,
    ],
    ["an object", "ccollections\nOrderedDict\n)\x81.", /would have to be executed; got collections.OrderedDict/],
    ["attributes of a list", "]}b.", /Attributes are those of a dictionary/],
    ["an opcode of another protocol", "I1\n.", /byte 73/],
    ["an empty pickle", "", /holds what it announces/],
    ["no end", "}}}", /holds what it announces/],
    ["an empty stack", "a.", /empty stack/],
    ["too few for a tuple", "N\x87.", /1 values for 3/],
    ["no mark", "t.", /finds its mark/],
    ["values left over", "NN.", /ends with one value/],
    ["what was never remembered", "h\x05.", /number 5/],
    ["a key twice", dict(["a", "N"], ["a", "N"]), /a twice/],
    ["a text beyond the file", "X\xff\xff\xff\x7fabc.", /bytes for 2147483647/],
    ["a text that is no UTF-8", "X\x01\0\0\0\xff.", /UTF-8/],
    ["a number of 2 GB", "\x8b\xff\xff\xff\x7f.", /at most 32 bytes/],
    ["a dictionary in itself", "}q\0X\x01\0\0\0ah\0s.", /holds itself/],
    [
      "doubling",
      `}q\0${Array.from({ length: 24 }, (_, i) => `0}q${String.fromCharCode(i + 1)}(${text("a")}h${String.fromCharCode(i)}${text("b")}h${String.fromCharCode(i)}u`).join("")}.`,
      /names without end/,
    ],
    ["containers without end", `(${"}".repeat(10_000)}t.`, /24 bytes for each dictionary/],
    ["marks without end", "(".repeat(2000), /1000 lists and tuples/],
    ["a stack without end", "N".repeat(2 ** 20 + 1), /1048576 values wait/],
    ["numbers out of the way", "Nr\xff\xff\xff\xff.", /numbered from 0 on; got 4294967295/],
    ["an odd dictionary", "}(Nu.", /Keys and values/],
    ["a key of a list", "}]Ns.", /Keys are texts and numbers/],
    [
      "one name twice",
      dict(["a.b", "K\x01"], ["a", "}X\x01\0\0\0bK\x02s"]),
      /names joined with "." are different|Names joined/,
    ],
    ["a tensor beyond its storage", dict(["a", rebuilt(storage("0", 4), 1, [4], [1])]), /5 elements of 4/, { 0: 16 }],
    [
      "strides beyond the storage",
      dict(["a", rebuilt(storage("0", 4), 0, [2, 2], [3, 1])]),
      /5 elements of 4/,
      { 0: 16 },
    ],
    ["a stride of 0", dict(["a", rebuilt(storage("0", 4), 0, [1 << 30], [0])]), /have room for/, { 0: 16 }],
    ["a stride below 0", dict(["a", rebuilt(storage("0", 4), 3, [2], [-1])]), /Strides are whole numbers/, { 0: 16 }],
    ["a shape below 0", dict(["a", rebuilt(storage("0", 4), 0, [-2, -2], [1, 1])]), /whole numbers/, { 0: 16 }],
    ["a storage that is shorter", dict(["a", rebuilt(storage("0", 4), 0, [4], [1])]), /12 bytes for 4/, { 0: 12 }],
    ["a storage that is missing", dict(["a", rebuilt(storage("../b", 4), 0, [4], [1])]), /got none .*"a\/data\/..\/b"/],
    [
      "a storage of complex numbers",
      dict(["a", storage("0", 1, "ComplexFloatStorage")]),
      /got torch.ComplexFloatStorage/,
    ],
    [
      "one storage a hundred times",
      dict(
        ...Array.from({ length: 100 }, (_, i): [string, string] => [
          `k${i}`,
          rebuilt(storage("0", 100_000), 0, [100_000], [1]),
        ]),
      ),
      /share their numbers up to 16 times/,
      { 0: 400_000 },
    ],
  ];
  for (const [name, opcodes, message, storages] of wrong) {
    it(`refuses ${name}`, () => {
      expect(() => loadTorch(checkpoint(opcodes, storages))).toThrow(message);
      expect(() => loadTorch(checkpoint(opcodes, storages))).toThrow(FormatError);
    });
  }

  it("refuses entries that are compressed, and archives of something else", () => {
    expect(() => loadTorch(zipSync({ "a/data.pkl": new Uint8Array(100) }))).toThrow(
      /stores each of its entries; got one that is compressed/,
    );
    expect(() => loadTorch(zipSync({ "b.txt": new Uint8Array(1) }))).toThrow(/one data.pkl; got 0/);
    expect(() => loadTorch(new Uint8Array(0))).toThrow(/ends with its directory/);
  });
});
