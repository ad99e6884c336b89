/**
 * Normalization cells. Each case gives the layer, its layout, and what any library needs to compute the same: `view`, a
 * shape that x is seen in; `reduce`, the axes of it that share a statistic; `affine`, the shape in which weight and bias
 * broadcast against it.
 */
const images = {
  ...{ small: [8, 16, 14, 14], cache: [32, 64, 28, 28], large: [32, 64, 56, 56] },
  ...{ gpu: [64, 256, 56, 56], tiny: [4, 32, 14, 14] },
};
const rows = {
  ...{ small: [32, 768], cache: [2048, 768], large: [8192, 768] },
  ...{ gpu: [16384, 4096], tiny: [128, 512] },
};
const features = {
  ...{ small: [256, 128], cache: [1536, 1024], large: [6144, 1024] },
  ...{ gpu: [16384, 4096], tiny: [128, 512] },
};
const groupsOf = (channels) => Math.min(32, channels / 2);

const product = (list) => list.reduce((a, b) => a * b, 1);

/** [N, C, H, W] with channels first or last, as [N, groups, C / groups, H * W] or [N, H * W, groups, C / groups]. */
function image(norm, layout, size, groups, reduceFirst, reduceLast) {
  const [n, c, h, w] = images[size];
  const first = layout === "first";
  return {
    norm,
    layout,
    size,
    groups,
    channels: c,
    shape: first ? [n, c, h, w] : [n, h, w, c],
    view: first ? [n, groups, c / groups, h * w] : [n, h * w, groups, c / groups],
    reduce: first ? reduceFirst : reduceLast,
    affine: first ? [1, groups, c / groups, 1] : [1, 1, groups, c / groups],
  };
}

const batch = (layout, size) => image("batch", layout, size, images[size][1], [0, 2, 3], [0, 1, 3]);
const group = (layout, size) => image("group", layout, size, groupsOf(images[size][1]), [2, 3], [1, 3]);
const instance = (layout, size) => image("instance", layout, size, images[size][1], [2, 3], [1, 3]);

/** Over the last axis ("last"), or over [C, H, W] of images ("first"). */
function row(norm, layout, size) {
  const shape = layout === "last" ? rows[size] : images[size];
  const width = product(shape.slice(1));
  return { norm, layout, size, shape, view: [shape[0], width], reduce: [1], affine: [1, width] };
}

/** Over the channels of each position: layer normalization of images with channels first. */
function position(size) {
  const [n, c, h, w] = images[size];
  return {
    ...{ norm: "layer2d", layout: "first", size, channels: c, shape: [n, c, h, w] },
    ...{ view: [n, c, h * w], reduce: [1], affine: [1, c, 1] },
  };
}

function vectors(size) {
  const [n, c] = features[size];
  return {
    norm: "batch1d",
    layout: "last",
    size,
    channels: c,
    shape: [n, c],
    view: [n, c],
    reduce: [0],
    affine: [1, c],
  };
}

const both = (make) => (size) => [make("first", size), make("last", size)];

/** "small", "cache" and "large" are sizes for the CPU; "gpu" outgrows a large GPU's caches, "tiny" is for one in software. */
export const normsOf = (sizes) =>
  sizes
    .flatMap((size) => [
      ...both(batch)(size),
      vectors(size),
      ...both((layout, s) => row("layer", layout, s))(size),
      position(size),
      ...both(group)(size),
      ...both(instance)(size),
      ...both((layout, s) => row("rms", layout, s))(size),
    ])
    .map((c) => ({ ...c, kind: "norm", id: `${c.norm} ${c.layout} ${c.size}`, modes: ["forward", "backward", "eval"] }))
    .map((c) => ({ ...c, traffic: traffic(product(c.shape) * 4) }));

export const norms = normsOf(["small", "cache", "large"]);

/** The least that each mode must move between memory and processor, in bytes: every operand once. */
function traffic(bytes) {
  return { forward: 2 * bytes, backward: 3 * bytes, eval: 2 * bytes };
}

export function normInputs({ shape, affine, norm, channels }, random) {
  const size = product(affine);
  const centred = norm !== "rms";
  const running = norm === "batch" || norm === "batch1d";
  return {
    x: random.normal(shape, 1.5),
    weight: random.uniform([size], 0.5, 1.5),
    ...(centred ? { bias: random.normal([size], 0) } : {}),
    dy: random.normal(shape, 0),
    ...(running ? { mean: random.normal([channels], 1.5), variance: random.uniform([channels], 0.5, 2) } : {}),
  };
}
