import { describe, expect, test } from "vitest";
import {
  checkpoint,
  checkpointSequential,
  grad,
  memoryStats,
  nn,
  Random,
  randn,
  scope,
  type Tensor,
} from "../index.js";

const random = new Random(11);

describe("memory of checkpoints", () => {
  const depth = 16;
  const bytes = 4 * 64 * 256; // one activation
  const chain = () =>
    new nn.Sequential(
      ...Array.from(
        { length: depth },
        () => new nn.Sequential(new nn.Linear(256, 256, { bias: false }), new nn.LayerNorm(256), new nn.GELU()),
      ),
    );

  /** Bytes kept between forward and backward. */
  function cost(forward: (model: nn.Sequential, x: Tensor) => Tensor) {
    const model = chain();
    const x = randn([64, 256], { random });
    let kept = 0;
    const live = () => memoryStats().liveBytes;
    // The gradients of the parameters are there the second time, so that only activations come and go.
    for (let i = 0; i < 2; i++) {
      const before = live();
      scope(() => {
        const loss = forward(model, x).square().sum();
        kept = live() - before;
        loss.backward();
      });
      if (i === 1) expect(live()).toBe(before);
    }
    model.dispose();
    x.dispose();
    return kept;
  }

  test("a chain keeps one activation a segment in place of all", () => {
    const plain = cost((model, x) => model.forward(x));
    const kept = cost((model, x) => [...model].reduce((t, m) => checkpoint(m, t), x));
    const roots = cost((model, x) => checkpointSequential(model, 4, x));
    // Linear saves its input, the normalization its own, GELU its own: three a block.
    expect(plain).toBeGreaterThan(3 * (depth - 1) * bytes);
    expect(kept).toBeLessThan((depth + 3) * bytes);
    // Three segments keep their inputs, the fourth all of its 4 blocks.
    expect(roots).toBeLessThan((3 + 3 * 4 + 3) * bytes);
  });

  test("live bytes while backward passes: one block's values at a time", () => {
    const model = chain();
    const x = randn([64, 256], { random });
    x.requiresGrad = true;
    const reached: number[] = [];
    /** Notes what is alive when a block's second run begins. */
    class Probe extends nn.Module {
      override forward(t: Tensor): Tensor {
        reached.push(memoryStats().liveBytes);
        return t;
      }
    }
    const before = memoryStats().liveBytes;
    scope(() => {
      const parts = [...model].map((m) => new nn.Checkpoint(new nn.Sequential(new Probe(), m)));
      const y = new nn.Sequential(...parts).forward(x);
      reached.length = 0;
      grad(y.square().sum(), x);
    });
    expect(reached).toHaveLength(depth);
    // The first block met has all inputs alive behind it, the last none: they go one by one.
    for (const [k, live] of reached.entries()) expect(live - before).toBeLessThan((depth - k + 2.1) * bytes);
    model.dispose();
  });

  test("100 steps with nested checkpoints leave what one leaves; so do graphs that nobody walks", () => {
    const block = () => new nn.Sequential(new nn.Conv1d(3, 3, 1), new nn.BatchNorm1d(3), new nn.Dropout(0.3));
    const model = new nn.Sequential(block(), block(), block());
    const x = randn([4, 3, 5], { random });
    const nested = (t: Tensor) => checkpoint((u: Tensor) => [...model].reduce((v, m) => checkpoint(m, v), u), t);
    const step = (walk: boolean) =>
      scope(() => {
        model.zeroGrad();
        const loss = nested(x).sum();
        if (walk) loss.backward();
      });
    step(true);
    const { liveBytes, liveBlocks } = memoryStats();
    for (let i = 0; i < 100; i++) step(i % 3 > 0);
    step(true);
    expect(memoryStats()).toMatchObject({ liveBytes, liveBlocks });
  });
});
