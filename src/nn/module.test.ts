import { describe, expect, test } from "vitest";
import { normal } from "../../tests/conformance/op_harness.js";
import { noGrad, ones, type Tensor, tensor, zeros } from "../autograd/index.js";
import { DTypeError, FormatError, ShapeError, StateError } from "../base/errors.js";
import { heap } from "../memory/heap.js";
import { scope } from "../memory/scope.js";
import { Linear } from "./linear.js";
import { Module, Parameter, stateName } from "./module.js";

class Blocks extends Module {
  readonly firstScale = new Parameter(ones([3], { dtype: "float64" }));
  readonly blocks: Linear[];
  readonly tied: Parameter;
  declare readonly stepCount: Tensor | null;
  readonly notes = ["not a module"];

  constructor() {
    super();
    this.blocks = [new Linear(3, 3, { dtype: "float64" }), new Linear(3, 3, { bias: false, dtype: "float64" })];
    this.tied = this.blocks[0]!.weight;
    this.registerBuffer("stepCount", zeros([1], { dtype: "int32" }));
  }

  override forward(x: Tensor): Tensor {
    let y = x.mul(this.firstScale);
    for (const block of this.blocks) y = block.forward(y);
    return y;
  }
}

describe("Module", () => {
  test("finds parameters, buffers and modules in arrays by name; a shared parameter counts once", () => {
    const m = new Blocks();
    const names = ["first_scale", "tied", "blocks.0.bias", "blocks.1.weight"];
    expect(m.namedParameters().map(([name]) => name)).toEqual(names);
    expect(m.namedBuffers().map(([name]) => name)).toEqual(["step_count"]);
    expect(m.namedModules().map(([path]) => path)).toEqual(["", "blocks.0", "blocks.1"]);
    // The state names both places of the shared one, as PyTorch does.
    expect(Object.keys(m.stateDict())).toEqual([
      ...["first_scale", "tied", "step_count", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight"],
    ]);
    expect(stateName("inProjWeight")).toBe("in_proj_weight");
  });

  test("a state with wrong names or shapes is refused whole, and names all of them", () => {
    const m = new Blocks();
    const before = m.firstScale.dataSync();
    const { tied: _, ...state } = m.stateDict();
    const bad = { ...state, first_scale: tensor([7, 7, 7]), "blocks.0.bias": zeros([4]), extra: zeros([1]) };
    expect(() => m.loadStateDict(bad)).toThrow(FormatError);
    expect(() => m.loadStateDict(bad)).toThrow(
      /missing: tied; unexpected: extra; other shape: blocks\.0\.bias \[4\] for \[3\]/,
    );
    expect(m.firstScale.dataSync()).toEqual(before);
    // A name that every object has is no name of the module's.
    expect(() => m.loadStateDict(new Map(Object.entries({ ...m.stateDict(), constructor: zeros([1]) })))).toThrow(
      /unexpected: constructor/,
    );
    const { "blocks.0.bias": _b, ...fitting } = bad;
    m.loadStateDict(new Map(Object.entries(fitting)), { strict: false });
    expect(m.firstScale.toArray()).toEqual([7, 7, 7]);
    m.loadStateDict({ first_scale: { shape: [3], data: [1, 2, 3] } }, { strict: false });
    expect(m.firstScale.toArray()).toEqual([1, 2, 3]);
  });

  test("backward returns the input's gradient and adds to parameters, once per forward", () => {
    const m = new Blocks();
    const x = normal([2, 3]);
    expect(() => m.backward()).toThrow(/last forward; got no forward on the tape/);
    const y = m.forward(x);
    const dy = normal([2, 3]);
    const dx = m.backward(dy);
    const [a, b] = m.blocks.map((l) => l.weight);
    const want = dy.matmul(b!).matmul(a!).mul(m.firstScale);
    for (const [i, v] of dx.dataSync().entries()) expect(v).toBeCloseTo(want.dataSync()[i]!, 12);
    for (const p of m.parameters()) expect(p.grad!.shape).toEqual(p.shape);
    expect(x.grad).toBe(null);
    expect(() => m.backward(dy)).toThrow(StateError);
    const first = m.firstScale.grad!.dataSync();
    m.forward(x);
    m.backward(dy);
    for (const [i, v] of m.firstScale.grad!.dataSync().entries()) expect(v).toBeCloseTo(2 * first[i]!, 12);
    m.forward(x);
    expect(() => m.backward()).toThrow(/Only a scalar can go back without gradOutput/);
    expect(() => m.backward(zeros([3, 3], { dtype: "float64" }))).toThrow(ShapeError);
    expect(y.requiresGrad).toBe(true);
  });

  test("loss.backward spends nothing on an input nobody marked", () => {
    const m = new Linear(3, 3, { dtype: "float64" });
    const x = normal([2, 3]);
    m.forward(x).sum().backward();
    expect(x.requiresGrad).toBe(false);
    expect(x.grad).toBe(null);
  });

  test("frozen parameters get no gradient", () => {
    const m = new Blocks().requiresGrad(false);
    m.blocks[1]!.requiresGrad();
    m.forward(normal([2, 3]))
      .sum()
      .backward();
    expect(m.firstScale.grad).toBe(null);
    expect(m.blocks[0]!.weight.grad).toBe(null);
    expect(m.blocks[1]!.weight.grad).not.toBe(null);
  });

  test("to() casts floats in place: holders of a parameter see it; int32 buffers stay", () => {
    const m = new Blocks();
    const held = m.firstScale;
    m.forward(normal([2, 3]))
      .sum()
      .backward();
    m.to("float32");
    expect(held.dtype).toBe("float32");
    expect(held.grad).toBe(null);
    expect(m.tied.dtype).toBe("float32");
    expect(m.stepCount!.dtype).toBe("int32");
    expect(m.to("cpu")).toBe(m);
    expect(noGrad(() => m.forward(normal([2, 3]).cast("float32"))).dtype).toBe("float32");
  });

  test("made in a scope it outlives it; dispose gives parameters, buffers and gradients back", () => {
    const before = heap.stats.liveBytes;
    const m = scope(() => new Blocks());
    scope(() =>
      m
        .forward(normal([2, 3]))
        .sum()
        .backward(),
    );
    expect(m.firstScale.grad!.disposed).toBe(false);
    m.zeroGrad();
    expect(m.firstScale.grad).toBe(null);
    scope(() =>
      m
        .forward(normal([2, 3]))
        .sum()
        .backward(),
    );
    m.dispose();
    expect(heap.stats.liveBytes).toBe(before);
    expect(() => m.forward(normal([2, 3]))).toThrow(/used until it is disposed/);
  });

  test("what is no tensor at all is refused by name, recorded or not", () => {
    for (const x of [undefined, null, 3, [1, 2, 3], new Float32Array(3)] as never[]) {
      expect(() => new Linear(3, 2).forward(x)).toThrow(/Linear.forward takes a tensor; got .*Make one with tensor/);
      expect(() => noGrad(() => new Linear(3, 2).forward(x))).toThrow(DTypeError);
    }
  });
});
