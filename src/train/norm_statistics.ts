import type { Tensor } from "../autograd/index.js";
import type { NumberArray } from "../base/dtype.js";
import type { NormLayerStatistics, Spread } from "../base/events.js";
import { normalizeAxis } from "../base/shape.js";
import type { Module } from "../nn/module.js";
import * as norm from "../nn/norm/index.js";

const kinds: readonly [string, readonly (abstract new (...args: never[]) => Module)[]][] = [
  ["batch", [norm.BatchNorm, norm.SyncBatchNorm, norm.BatchNorm1d, norm.BatchNorm2d, norm.BatchNorm3d]],
  ["group", [norm.GroupNorm]],
  ["layer", [norm.LayerNorm]],
  ["instance", [norm.InstanceNorm1d, norm.InstanceNorm2d, norm.InstanceNorm3d]],
  ["rms", [norm.RMSNorm]],
];

/** What normalization layers have that statistics are made of. */
interface NormLayer {
  readonly weight?: Tensor | null;
  readonly bias?: Tensor | null;
  readonly runningMean?: Tensor | null;
  readonly runningVar?: Tensor | null;
  readonly axis?: number;
  readonly normalizedShape?: readonly number[];
}

export const normKind = (module: Module): string | null =>
  kinds.find(([, classes]) => classes.some((c) => module instanceof c))?.[0] ?? null;

/**
 * Runs `body` (a forward pass) while watching what comes into each normalization layer, and gives the statistics of
 * all of them. A layer that is called several times is shown as it was called last; one that is not called is left out.
 */
export function watchNormLayers<T>(
  model: Module,
  body: () => T,
): { result: T; layers: () => Promise<NormLayerStatistics[]> } {
  const seen = new Set<Module>();
  const watched = model.namedModules().flatMap(([layer, module]) => {
    const kind = seen.has(module) ? null : normKind(module);
    seen.add(module);
    return kind === null
      ? []
      : [{ layer, kind, module, forward: module.forward, input: null as Promise<Moments> | null }];
  });
  for (const entry of watched) {
    entry.module.forward = (x: Tensor, ...rest: unknown[]) => {
      entry.input = channelMoments(x, channelAxis(entry.module as NormLayer, x.rank));
      // Where the forward pass fails, nobody waits for them.
      entry.input.catch(() => {});
      return entry.forward.call(entry.module, x, ...rest);
    };
  }
  try {
    const result = body();
    const layers = () =>
      Promise.all(
        watched.flatMap(({ layer, kind, module, input }) =>
          input ? [describe(layer, kind, module as NormLayer, input)] : [],
        ),
      );
    return { result, layers };
  } finally {
    for (const { module, forward } of watched) module.forward = forward;
  }
}

async function describe(
  layer: string,
  kind: string,
  { runningMean, runningVar, weight, bias }: NormLayer,
  input: Promise<Moments>,
): Promise<NormLayerStatistics> {
  // All are asked for before any is waited for: what they are may change meanwhile.
  const of = async (t: Tensor | null | undefined) => (t ? spread(await t.data()) : null);
  const [moments, ...own] = await Promise.all([input, of(runningMean), of(runningVar), of(weight), of(bias)]);
  return {
    layer,
    kind,
    inputMean: spread(moments.means),
    inputVariance: spread(moments.variances),
    runningMean: own[0],
    runningVariance: own[1],
    gamma: own[2],
    beta: own[3],
  };
}

/** Layers over the last axis alone have their channels there; all others have an axis for them, or [N, C, ...]. */
function channelAxis(layer: NormLayer, rank: number): number {
  if (layer.normalizedShape?.length === 1) return rank - 1;
  return normalizeAxis(layer.axis ?? Math.min(1, rank - 1), rank);
}

interface Moments {
  readonly means: Float64Array;
  readonly variances: Float64Array;
}

/** Mean and biased variance of each channel, in two passes: E[x^2] - mean^2 cancels for a large mean. */
async function channelMoments(x: Tensor, axis: number): Promise<Moments> {
  const { shape } = x;
  const values = await x.data();
  const channels = shape[axis]!;
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const count = values.length / channels;
  const means = new Float64Array(channels);
  const variances = new Float64Array(channels);
  for (let i = 0; i < values.length; i++) means[Math.floor(i / inner) % channels]! += values[i]! / count;
  for (let i = 0; i < values.length; i++) {
    const c = Math.floor(i / inner) % channels;
    variances[c]! += (values[i]! - means[c]!) ** 2 / count;
  }
  return { means, variances };
}

/** null when a value is NaN or infinite, which an event cannot hold. */
function spread(values: NumberArray): Spread | null {
  let [mean, min, max] = [0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of values) {
    mean += v / values.length;
    min = Math.min(min, v);
    max = Math.max(max, v);
  }
  let variance = 0;
  for (const v of values) variance += (v - mean) ** 2 / values.length;
  return Number.isFinite(variance) ? { mean, std: Math.sqrt(variance), min, max } : null;
}
