/** Matrix products and convolutions. `flops` counts a multiplication and an addition as two. */
export const matmul = (name, m, k, n, transposeA = false, transposeB = false) => ({
  ...{ kind: "matmul", id: `matmul ${name}`, m, k, n, transposeA, transposeB, modes: ["forward"] },
  ...{ a: transposeA ? [k, m] : [m, k], b: transposeB ? [n, k] : [k, n], flops: { forward: 2 * m * k * n } },
});

export const products = [
  matmul("512", 512, 512, 512),
  matmul("768", 768, 768, 768),
  matmul("1024", 1024, 1024, 1024),
  matmul("256x784x1024", 256, 784, 1024),
  matmul("a*bT 256x1024x1024", 256, 1024, 1024, false, true),
  matmul("aT*b 1024x256x1024", 1024, 256, 1024, true, false),
];

export function conv(name, batch, inChannels, height, outChannels, kernel, groups = 1) {
  const padding = (kernel - 1) / 2;
  const forward = 2 * batch * height * height * outChannels * (inChannels / groups) * kernel * kernel;
  return {
    ...{ kind: "conv", id: `conv ${name}`, batch, inChannels, height, outChannels, kernel, groups, padding },
    ...{ modes: ["forward", "backward"], flops: { forward, backward: 2 * forward } },
  };
}

export const convolutions = [
  conv("3x3 1>32 28x28", 64, 1, 28, 32, 3),
  conv("3x3 32>64 14x14", 64, 32, 14, 64, 3),
  conv("3x3 64>64 56x56", 8, 64, 56, 64, 3),
  conv("5x5 16>32 28x28", 16, 16, 28, 32, 5),
  conv("1x1 64>256 28x28", 16, 64, 28, 256, 1),
  conv("depthwise 3x3 64 56x56", 16, 64, 56, 64, 3, 64),
];

/** The same computation on fewer images or rows: what the plain float64 loops of reference can check in seconds. */
export const reduced = (c) => (c.kind === "conv" ? { ...c, batch: 1 } : { ...c, ...smaller(c) });

function smaller({ m, k, transposeA }) {
  const rows = Math.min(m, 37);
  return { m: rows, a: transposeA ? [k, rows] : [rows, k] };
}

export const matmulInputs = ({ a, b }, random) => ({ a: random.normal(a, 0), b: random.normal(b, 0) });

export function convInputs({ batch, inChannels, height, outChannels, kernel, groups }, random) {
  const taps = [inChannels / groups, kernel, kernel];
  const bound = 1 / Math.sqrt(taps[0] * kernel * kernel);
  return {
    x: random.normal([batch, inChannels, height, height], 0),
    weight: random.uniform([outChannels, ...taps], -bound, bound),
    bias: random.uniform([outChannels], -bound, bound),
    dy: random.normal([batch, outChannels, height, height], 0),
  };
}
