// A Wasserstein GAN on the digits whose critic is held to slopes of 1 by a gradient penalty: the loss contains the length of
// a gradient, so that training differentiates a gradient. The critic has layer normalization: a penalty for each sample
// asks that a sample's score follow from that sample alone, which batch normalization breaks.
// Gulrajani et al. 2017, arXiv:1704.00028. Run: node examples/gradient_penalty.js
import { grad, manualSeed, nn, noGrad, optim, rand, randn, scope } from "evenkeel";
import { DataLoader, digits } from "evenkeel/data";

const latent = 16;
const makeCritic = () => {
  const block = (from) => [new nn.Linear(from, 64), new nn.LayerNorm(64), new nn.LeakyReLU(0.2)];
  return new nn.Sequential(...block(64), ...block(64), new nn.Linear(64, 1));
};
const makeGenerator = () => {
  const block = (from) => [new nn.Linear(from, 64), new nn.BatchNorm1d(64), new nn.ReLU()];
  return new nn.Sequential(...block(latent), ...block(64), new nn.Linear(64, 64));
};

/** Length of the critic's gradient at each of the points x [N, 64]; it can be differentiated in its turn. */
function slopes(critic, x) {
  x.requiresGrad = true;
  const dx = grad(critic.forward(x).sum(), x, { createGraph: true });
  return dx.square().sum(1).add(1e-12).sqrt();
}

/** Points on the lines between real and made samples, one a line. */
function between(real, made) {
  const t = rand([real.shape[0], 1]);
  return noGrad(() => real.mul(t).add(made.mul(t.neg().add(1))));
}

/** Trains critic and generator; returns what the first step shows, and the last tenth of the steps on average. */
function train({ weight, steps, log }) {
  manualSeed(0);
  const [critic, generator] = [makeCritic(), makeGenerator()];
  const rates = { lr: 1e-3, betas: [0.5, 0.9] };
  const criticOptimizer = new optim.Adam(critic.parameters(), rates);
  const generatorOptimizer = new optim.Adam(generator.parameters(), rates);
  const loader = new DataLoader(digits().train, { batchSize: 32, shuffle: true, dropLast: true, seed: 0 });
  const seen = [];
  while (seen.length < steps) {
    for (const batch of loader) {
      if (seen.length === steps) break;
      seen.push(
        scope(() => {
          const real = batch.x.reshape([-1, 64]);
          const made = noGrad(() => generator.forward(randn([real.shape[0], latent])));
          const slope = slopes(critic, between(real, made));
          const penalty = slope.sub(1).square().mean();
          const [scoreReal, scoreMade] = [critic.forward(real).mean(), critic.forward(made).mean()];
          const distance = scoreReal.sub(scoreMade);
          criticOptimizer.zeroGrad();
          penalty.mul(weight).sub(distance).backward();
          criticOptimizer.step();
          return { slope: slope.mean().item(), penalty: penalty.item(), distance: distance.item() };
        }),
      );
      if (seen.length % 3 === 0) {
        scope(() => {
          generatorOptimizer.zeroGrad();
          critic
            .forward(generator.forward(randn([32, latent])))
            .mean()
            .neg()
            .backward();
          generatorOptimizer.step();
        });
      }
      batch.dispose();
    }
  }
  const average = (part) => {
    const mean = (name) => part.reduce((sum, s) => sum + s[name], 0) / part.length;
    return { slope: mean("slope"), penalty: mean("penalty"), distance: mean("distance") };
  };
  const tenth = Math.ceil(steps / 10);
  const [first, last] = [average(seen.slice(0, 1)), average(seen.slice(-tenth))];
  for (const [when, s] of Object.entries({ first, last })) {
    log(
      `penalty weight ${weight}, ${when}: slope ${s.slope.toFixed(3)}, penalty ${s.penalty.toFixed(4)}, ` +
        `real - made ${s.distance.toFixed(3)}`,
    );
  }
  for (const owner of [critic, generator, criticOptimizer, generatorOptimizer]) owner.dispose();
  return { first, last };
}

/** With the penalty the critic's slope nears 1; without it the slope is whatever lets the scores grow. */
export function main({ steps = 300, log = console.log } = {}) {
  return { held: train({ weight: 10, steps, log }), free: train({ weight: 0, steps, log }) };
}

if (import.meta.url === `file://${process.argv[1]}`) main();
