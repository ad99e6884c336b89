import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openNpz, openSafetensors, saveNpz } from "../../src/io/index.js";
import { buildIfStale, type Finished, program, start } from "./built.js";

let folder: string;
const numbers = (...shape: number[]) => ({
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i + shape.length)),
});
const keras = {
  "conv/kernel": numbers(3, 3, 2, 4),
  "bn/gamma": numbers(4),
  "bn/beta": numbers(4),
  "bn/moving_mean": numbers(4),
  "bn/moving_variance": numbers(4),
  "fc/kernel": numbers(16, 3),
};

beforeAll(() => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "evenkeel-convert-"));
  saveNpz(keras, join(folder, "keras.npz"));
}, 180_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const convert = (...args: string[]): Promise<Finished> => start(program, ["convert", ...args], folder).done;

it("converts a file, tells of every tensor, and back under the names of a template", async () => {
  const there = await convert(
    ...["keras.npz", "torch.safetensors", "--flatten", "fc=4,2,2", "--rename", "conv=features.0", "--json"],
  );
  expect(there.err).toBe("");
  expect(there.code).toBe(0);
  const lines = there.out.trimEnd().split("\n");
  expect(lines.find((l) => l.startsWith("conv/kernel"))).toMatch(
    /features\.0\.weight +\[4, 2, 3, 3\] +renamed +axes 3 2 0 1/,
  );
  const said = JSON.parse(lines.at(-1)!);
  expect(said).toMatchObject({
    from: "keras",
    to: "evenkeel",
    written: true,
    counts: { converted: 6, made: 1, missing: 0 },
  });
  const torch = await openSafetensors(join(folder, "torch.safetensors"));
  expect([...torch.tensors.keys()].sort()).toEqual([
    ...["bn.bias", "bn.num_batches_tracked", "bn.running_mean", "bn.running_var", "bn.weight"],
    ...["fc.weight", "features.0.weight"],
  ]);
  torch.close();

  const back = await convert(
    ...["torch.safetensors", "back.npz", "--to", "keras", "--template", "keras.npz", "--flatten", "fc=4,2,2"],
  );
  expect(back).toMatchObject({ code: 0, err: "" });
  expect(back.out).toMatch(/conv\/kernel .*renamed by shape/);
  const file = await openNpz(join(folder, "back.npz"));
  for (const [name, { data }] of Object.entries(keras)) expect((await file.read(name)).data, name).toEqual(data);
  file.close();
});

it("writes nothing that does not fill the template, unless it is told to", async () => {
  saveNpz({ "conv/kernel": numbers(3, 3, 2, 4), "other/kernel": numbers(5, 5) }, join(folder, "other.npz"));
  const args = ["keras.npz", "partial.npz", "--to", "tfjs", "--template", "other.npz"];
  const refused = await convert(...args);
  expect(refused.code).toBe(1);
  expect(refused.err).toBe("evenkeel: partial.npz is not written: 1 missing, 5 left over (--partial writes it)\n");
  expect(readdirSync(folder)).not.toContain("partial.npz");
  expect((await convert(...args, "--partial")).code).toBe(0);
  expect(readdirSync(folder)).toContain("partial.npz");
});

it.each<[number, string[], RegExp]>([
  [2, ["keras.npz"], /missing required argument 'out'/],
  [2, ["keras.npz", "x.npz", "--to", "kreas"], /Did you mean "keras"\?/],
  [2, ["keras.npz", "x.npz", "--kind", "fc=lin"], /layer=kind, with a kind of/],
  [2, ["keras.npz", "x.npz", "--flatten", "fc=4"], /layer=C,H,W/],
  [2, ["keras.npz", "x.npz", "--rename", "fc"], /layer=value/],
  [1, ["keras.npz", "x.foo"], /written end in \.safetensors.*x\.foo/],
  [1, ["nowhere.npz", "x.npz"], /nowhere\.npz: no such file/],
  [1, ["keras.npz", "x.npz", "--rename", "fx=y"], /rename names layers of the source; got "fx"\. Did you mean "fc"\?/],
  [1, ["keras.npz", "x.npz", "--rename", "fc=conv"], /conv\.weight for conv\/kernel and fc\/kernel/],
  [1, ["keras.npz", "x.npz", "--kind", "fc=heads=2"], /kind attention has/],
])("exit code %i, one line: %j", async (code, args, message) => {
  const finished = await convert(...args);
  expect(finished).toMatchObject({ code, out: "" });
  expect(finished.err).toMatch(message);
  expect(finished.err.trimEnd().split("\n")).toHaveLength(1);
});

it("takes the part that is named out of a PyTorch checkpoint", async () => {
  const checkpoint = fileURLToPath(new URL("../io/files/torch_training.pt", import.meta.url));
  const whole = await convert(checkpoint, "part.safetensors");
  expect(whole).toMatchObject({ code: 1, out: "" });
  expect(whole.err).toMatch(/got argparse\.Namespace .*key: "state_dict"/);
  expect(await convert(checkpoint, "part.safetensors", "--key", "state_dict")).toMatchObject({ code: 0, err: "" });
  const file = await openSafetensors(join(folder, "part.safetensors"));
  expect([...file.tensors.keys()].sort()).toEqual(["bias", "weight"]);
  file.close();
  const other = await convert("keras.npz", "part.safetensors", "--key", "conv");
  expect(other).toMatchObject({ code: 1, out: "" });
  expect(other.err).toContain("key names a part of a PyTorch checkpoint; got conv for keras.npz (npz)");
});
