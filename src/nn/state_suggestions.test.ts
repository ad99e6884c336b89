import { afterEach, describe, expect, test } from "vitest";
import { scope } from "../memory/scope.js";
import { Conv2d, Linear, Module, Sequential, type StateSource } from "./index.js";
import { BatchNorm2d } from "./norm/index.js";
import { spectralNorm } from "./norm/spectral_norm.js";
import { weightNorm } from "./norm/weight_norm.js";

class Net extends Module {
  readonly conv = new Conv2d(2, 4, 3);
  readonly bn = new BatchNorm2d(4);
  readonly fc = new Linear(5, 3);
  override forward(): never {
    throw new Error("only its names are used");
  }
}

const made: Module[] = [];
afterEach(() => {
  for (const m of made.splice(0)) m.dispose();
});
const net = <M extends Module>(m: M): M => {
  made.push(m);
  return m;
};
const stateOf = (m: Module): Record<string, StateSource> =>
  scope(() =>
    Object.fromEntries(Object.entries(m.stateDict()).map(([n, t]) => [n, { shape: t.shape, data: t.dataSync() }])),
  );
const renamed = (state: Record<string, StateSource>, name: (n: string) => string): Record<string, StateSource> =>
  Object.fromEntries(Object.entries(state).map(([n, v]) => [name(n), v]));
const refusal = (m: Module, state: Record<string, StateSource>): string => {
  try {
    m.loadStateDict(state);
  } catch (error) {
    return (error as Error).message;
  }
  return "accepted";
};
const kerasNames: Record<string, string> = {
  "bn.weight": "bn.gamma",
  "bn.bias": "bn.beta",
  "bn.running_mean": "bn.moving_mean",
  "bn.running_var": "bn.moving_variance",
};

describe("loadStateDict says what names look like", () => {
  test.each(["module.", "_orig_mod.", "encoder.model."])("behind %j", (prefix) => {
    const m = net(new Net());
    const text = refusal(
      m,
      renamed(stateOf(m), (n) => prefix + n),
    );
    expect(text).toContain(`without "${prefix}"`);
    expect(text).toMatch(/before them, 9 names of the state fit/);
    expect(text).toContain("{ strict: false }");
  });

  test("when the module's own begin with more", () => {
    const m = net(new Sequential(new Net()));
    expect(refusal(m, stateOf(net(new Net())))).toContain('with "0." before them, 9 names of the state fit');
  });

  test("Keras's names", () => {
    const m = net(new Net());
    const text = refusal(
      m,
      renamed(stateOf(m), (n) => kerasNames[n] ?? n),
    );
    expect(text).toContain("bn.gamma looks like bn.weight (Keras's name)");
    expect(text).toContain("bn.moving_mean looks like bn.running_mean (Keras's name)");
    expect(text).toContain("and 1 more like these");
    expect(text).toContain("evenkeel convert <in> <out>");
  });

  test("Flax's names, with slashes and in its layout", () => {
    const m = net(new Linear(5, 3));
    const given = {
      "params/kernel": { shape: [5, 3], data: new Float32Array(15) },
      "params/bias": { shape: [3], data: [1, 2, 3] },
    };
    const text = refusal(m, given);
    expect(text).toContain("params/kernel looks like weight (Keras's and Flax's name in another layout)");
    expect(text).toContain("params/bias looks like bias");
  });

  test("transposes and kernels with channels last", () => {
    const m = net(new Net());
    const state = stateOf(m);
    state["fc.weight"] = { shape: [5, 3], data: new Float32Array(15) };
    state["conv.weight"] = { shape: [3, 3, 2, 4], data: new Float32Array(72) };
    const text = refusal(m, state);
    expect(text).toContain("fc.weight has the shape of its transpose, as Keras, Flax and TensorFlow.js store it");
    expect(text).toContain("conv.weight has the shape of [H, W, in, out]");
    expect(text).toContain("evenkeel convert");
  });

  test("weight and spectral normalization on one side, or written in torch's newer way", () => {
    const [plain, normed] = [net(new Net()), net(new Net())];
    weightNorm(normed.conv);
    spectralNorm(normed.fc);
    const there = refusal(plain, stateOf(normed));
    expect(there).toContain("the state has conv.weight_g: call nn.weightNorm on that layer before loading");
    expect(there).toContain("the state has fc.weight_orig: call nn.spectralNorm");
    const here = refusal(normed, stateOf(plain));
    expect(here).toContain("the state has a plain conv.weight: load it before nn.weightNorm");
    expect(here).toContain("the state has a plain fc.weight: load it before nn.spectralNorm");
    const newer = (n: string) =>
      n
        .replace(/weight_g$/, "parametrizations.weight.original0")
        .replace(/conv\.weight_v$/, "conv.parametrizations.weight.original1");
    expect(refusal(normed, renamed(stateOf(normed), newer))).toContain(
      "conv.parametrizations.weight.original0 is conv.weight_g here",
    );
  });

  test("a typing error, and counters alone", () => {
    const m = net(new Net());
    expect(
      refusal(
        m,
        renamed(stateOf(m), (n) => n.replace("conv.", "cnov.")),
      ),
    ).toContain("cnov.bias [4] is near conv.bias");
    const { "bn.num_batches_tracked": _, ...rest } = stateOf(m);
    expect(refusal(m, rest)).toContain("only counters of batches are missing");
  });

  test("nothing where nothing is like it; never more than five", () => {
    const m = net(new Net());
    const other = { something: { shape: [7], data: new Float32Array(7) } };
    expect(refusal(m, other)).not.toContain("It seems");
    const all = Object.fromEntries(
      Object.entries(stateOf(m)).map(([n, v], i) => [i % 2 ? (kerasNames[n] ?? `${n}x`) : `${n}y`, v]),
    );
    expect(refusal(m, all).split("It seems that ")[1]!.split(". ")[0]!.split("; ").length).toBeLessThanOrEqual(5);
  });
});
