import { afterAll, expect, test } from "vitest";
import { F, manualSeed, nn, optim, randn, scope, setBlas, setThreads, tensor } from "../../src/index.js";
import { blasOrReason, describeBlas } from "../conformance/blas.js";

const models = {
  "a network with convolutions": {
    make: () =>
      new nn.Sequential(
        new nn.Conv2d(1, 8, 3, { padding: 1 }),
        new nn.BatchNorm2d(8),
        new nn.ReLU(),
        new nn.Conv2d(8, 16, 3, { padding: 1, stride: 2 }),
        new nn.GroupNorm(4, 16),
        new nn.ReLU(),
        new nn.Conv2d(16, 16, 1),
        new nn.Flatten(),
        new nn.Linear(16 * 36, 10),
      ),
    input: [32, 1, 12, 12],
  },
  "linear layers": {
    make: () => new nn.Sequential(new nn.Linear(50, 64), new nn.Tanh(), new nn.Linear(64, 10)),
    input: [40, 50],
  },
};

describeBlas(`training with ${blasOrReason}`, () => {
  afterAll(() => setBlas("none"));
  for (const [name, { make, input }] of Object.entries(models)) {
    test(`${name}: losses as with WebAssembly alone`, () => {
      const losses = (choice: string, threads: number) => {
        setBlas(choice);
        setThreads(threads);
        manualSeed(5);
        const model = make();
        const optimizer = new optim.SGD(model.parameters(), { lr: 0.05 });
        const x = randn(input);
        const target = tensor(
          Array.from({ length: input[0]! }, (_, i) => (i * 7) % 10),
          { dtype: "int32" },
        );
        return Array.from({ length: 4 }, () =>
          scope(() => {
            const loss = F.crossEntropy(model.forward(x), target);
            optimizer.zeroGrad();
            loss.backward();
            optimizer.step();
            return loss.item();
          }),
        );
      };
      const want = losses("none", 1);
      expect(want[3]).toBeLessThan(want[0]!);
      for (const threads of [1, 2]) {
        for (const [i, loss] of losses("auto", threads).entries()) {
          expect(Math.abs(loss - want[i]!) / want[i]!).toBeLessThan(1e-5);
        }
      }
    });
  }
});
