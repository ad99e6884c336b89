// A layer of one's own: parameters and buffers are found by name, gradients come from autograd, state saves and loads.
// Run: node examples/own_layer.js
import { manualSeed, nn, ones, randn, tensor } from "evenkeel";

/** y = gain * tanh(x / scale), with a learned gain for each feature and a scale that follows the data. */
class ScaledTanh extends nn.Module {
  constructor(features) {
    super();
    this.gain = new nn.Parameter(ones([features]));
    this.registerBuffer("typicalSize", tensor(1));
  }

  forward(x) {
    if (this.training) {
      const size = x.detach().abs().mean().item();
      this.typicalSize.assign([0.9 * this.typicalSize.item() + 0.1 * size]);
    }
    return x.div(this.typicalSize).tanh().mul(this.gain);
  }
}

export function main({ log = console.log } = {}) {
  manualSeed(0);
  const model = new nn.Sequential(new nn.Linear(3, 4), new ScaledTanh(4), new nn.LayerNorm(4));
  const x = randn([5, 3]);
  const y = model.forward(x);

  // From the gradient to the output, the gradient to the input; parameters add theirs up in `.grad`.
  const dx = model.backward(randn(y.shape));
  log(`dx ${JSON.stringify(dx.shape)}, gain.grad ${JSON.stringify(model.stateDict()["1.gain"]?.shape)}`);
  log(Object.keys(model.stateDict()).join(", "));

  const copy = new nn.Sequential(new nn.Linear(3, 4), new ScaledTanh(4), new nn.LayerNorm(4));
  copy.loadStateDict(model.stateDict());
  model.eval();
  copy.eval();
  const difference = model.forward(x).sub(copy.forward(x)).abs().max().item();
  log(`difference after loading: ${difference}`);
  return { names: Object.keys(model.stateDict()), gradientShape: dx.shape, difference };
}

if (import.meta.url === `file://${process.argv[1]}`) main();
