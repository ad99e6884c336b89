import { afterAll, expect, test } from "vitest";
import { manualSeed, Random } from "../../../src/base/random.js";
import { convNet, normKinds } from "../../../src/cli/models.js";
import { DataLoader, digits } from "../../../src/data/index.js";
import { F, nn, noGrad, optim, randn, scope, type Tensor, tensor } from "../../../src/index.js";
import { exportOnnx, type OnnxReport } from "../../../src/io/index.js";
import { difference, runOnnx } from "./ort.js";

const { train, test: held, ...about } = digits();
const images = tensor(held.images, { shape: [held.length, 1, 8, 8] });

/** One pass over the digits. */
function trained(model: nn.Module): nn.Module {
  const optimizer = new optim.AdamW(model.parameters(), { lr: 2e-3 });
  for (const batch of new DataLoader(train, { batchSize: 32, shuffle: true, seed: 0 })) {
    scope(() => {
      const loss = F.crossEntropy(model.forward(batch.x), batch.y);
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
    });
    batch.dispose();
  }
  return model.eval();
}

/** Share of samples whose largest output is the label's. */
function accuracy(logits: ArrayLike<number>): number {
  let right = 0;
  for (const [n, label] of held.labels.entries()) {
    const row = Array.from({ length: 10 }, (_, c) => logits[n * 10 + c]!);
    if (row.indexOf(Math.max(...row)) === label) right++;
  }
  return right / held.length;
}

let worst = 0;
afterAll(() => console.info(`ONNX out: models on 360 digits and tokens, largest difference ${worst}`));

test.each(normKinds)("the digits CNN with norm %s", async (norm) => {
  manualSeed(1);
  const model = trained(convNet(about, norm));
  const ours = noGrad(() => model.forward(images)).dataSync();
  const example = images.narrow(0, 0, 1);
  expect(accuracy(ours)).toBeGreaterThan(0.8);
  for (const [opset, fold] of [
    [17, false],
    [17, true],
    [24, true],
  ] as const) {
    let told: OnnxReport | undefined;
    const report = (r: OnnxReport) => {
      told = r;
    };
    const bytes = exportOnnx(model, example, { opset, fold, dynamicBatch: true, report });
    expect(told!.folded.length).toBe(fold && norm === "batch" ? 3 : 0);
    const theirs = (await runOnnx(bytes, { input: images })).get("output")!;
    expect(theirs.shape).toEqual([held.length, 10]);
    const far = difference(theirs.data, ours);
    worst = Math.max(worst, far);
    expect(far).toBeLessThan(1e-5);
    expect(accuracy(theirs.data)).toBe(accuracy(ours));
  }
});

/** A block as in GPT: attention and an MLP, each behind a norm and beside a shortcut. */
class Block extends nn.Module {
  readonly norms: nn.Module[];
  readonly attention: nn.MultiheadAttention;
  readonly mlp: nn.Sequential;

  constructor(width: number, norm: (width: number) => nn.Module) {
    super();
    this.norms = [norm(width), norm(width)];
    this.attention = new nn.MultiheadAttention(width, 4, { batchFirst: true, dropout: 0.1 });
    this.mlp = new nn.Sequential(new nn.Linear(width, 3 * width), new nn.GELU(), new nn.Linear(3 * width, width));
  }

  override forward(x: Tensor): Tensor {
    const y = this.norms[0]!.forward(x);
    const seen = x.add(this.attention.forward(y, y, y, { isCausal: true }));
    return seen.add(this.mlp.forward(this.norms[1]!.forward(seen)));
  }
}

class Classifier extends nn.Module {
  readonly tokens: nn.Embedding;
  readonly places: nn.Parameter;
  readonly blocks: nn.Module[];
  readonly head: nn.Linear;

  constructor(length: number, width: number, norm: (width: number) => nn.Module) {
    super();
    this.tokens = new nn.Embedding(20, width);
    this.places = new nn.Parameter(randn([length, width]));
    this.blocks = [0, 1, 2].map(() => new Block(width, norm));
    this.head = new nn.Linear(width, 5);
  }

  override forward(x: Tensor): Tensor {
    const first = this.tokens.forward(x).add(this.places);
    return this.head.forward(this.blocks.reduce((y, block) => block.forward(y), first).mean(1));
  }
}

const inTransformers: [string, (width: number) => nn.Module][] = [
  ["LayerNorm", (width) => new nn.LayerNorm(width)],
  ["RMSNorm", (width) => new nn.RMSNorm(width)],
  ["DyT", (width) => new nn.DyT(width)],
];

test.each(inTransformers)("a transformer with %s, of any number of sequences", async (_, norm) => {
  const r = new Random(3);
  manualSeed(3);
  const model = new Classifier(7, 16, norm);
  const tokens = tensor(
    Int32Array.from({ length: 6 * 7 }, () => Math.floor(r.uniform() * 20)),
    { shape: [6, 7] },
  );
  for (const opset of [14, 17, 23]) {
    const bytes = exportOnnx(model, tokens.narrow(0, 0, 2), { opset, dynamicBatch: true });
    const ours = noGrad(() => model.eval().forward(tokens)).dataSync();
    const far = difference((await runOnnx(bytes, { input: tokens })).get("output")!.data, ours);
    worst = Math.max(worst, far);
    expect(far).toBeLessThan(1e-5);
  }
});
