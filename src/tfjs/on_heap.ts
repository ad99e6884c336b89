import {
  customGrad,
  engine,
  type GradSaveFunc,
  getBackend,
  grads,
  type Tensor as TFTensor,
  backend as tfBackend,
  tensor as tfTensor,
} from "@tensorflow/tfjs-core";
import { noGrad, type Tensor, tensor } from "../autograd/index.js";
import type { NormInputs } from "../autograd/ops/fused_norm.js";
import type { Shape } from "../base/shape.js";
import { scope } from "../memory/scope.js";
import { normalizeComposed } from "./composed.js";
import { fusedNorm, type HeapNorm, maskedNorm } from "./heap_norms.js";
import { inverseOrder, type Mask, type Normalized, type NormRequest } from "./plan.js";

type Read = (t: TFTensor) => Float32Array;

interface HeapBackend {
  /** The numbers of a tensor, to be copied at once. */
  readonly read: Read;
  /** Whether its tensors go on using the array that they are made of. */
  readonly keepsArrays: boolean;
}

/** What the wasm backend has beside dataSync, which makes a copy. */
interface OwnHeap {
  typedArrayFromHeap?: Read;
}

/** Backends whose numbers JavaScript reads without waiting. */
const backends: ReadonlyMap<string, HeapBackend> = new Map([
  ["cpu", { read: (t) => t.dataSync<"float32">(), keepsArrays: true }],
  [
    "wasm",
    {
      read: (t) => (tfBackend() as unknown as OwnHeap).typedArrayFromHeap?.(t) ?? t.dataSync<"float32">(),
      keepsArrays: false,
    },
  ],
]);

export const readsAtOnce = (backend: string): boolean => backends.has(backend);

/** What waits in JavaScript between forward and backward: a few numbers, in double as the kernels made them. */
interface Statistics {
  readonly mean: Float64Array | null;
  readonly variance: Float64Array;
}

/**
 * Normalization by Evenkeel's kernels: x is copied to its heap and y from it, and for the gradient x and dy, and dx.
 *
 * Nothing of a call stays on the heap, since TensorFlow.js does not say when it has done with a gradient function, or that
 * it will never call it. So TensorFlow.js keeps x, which it disposes with its tape. Arrays of JavaScript in its place took 1.1 to
 * 1.7 times as long on the wasm backend, where they are megabytes for the garbage collector, and as long on cpu; x left on the
 * heap saved a tenth at best (training steps of [32, 16, 16, 64] and [64, 512], one thread, 2-core AMD EPYC).
 */
export function normalizeOnHeap(request: NormRequest): Normalized {
  const { x, gamma, beta, mask } = request;
  const valid = mask ? Uint8Array.from(mask.positions.dataSync(), (v) => (v ? 1 : 0)) : null;
  // No position counts: there is nothing to take statistics from, and one place says what Keras makes of that.
  if (valid && !valid.includes(1)) return normalizeComposed(request);
  const norm = normOf(request, valid);
  let statistics: Statistics | undefined;
  const call = customGrad((...args: (TFTensor | GradSaveFunc)[]) => {
    const save = args.pop() as GradSaveFunc;
    const made = forward(norm, request);
    statistics = made.statistics;
    save(args as TFTensor[]);
    const gradFunc = (dy: TFTensor, saved: TFTensor[]) =>
      // Inside a gradient of a gradient, this one goes on the outer tape.
      engine().state.gradientDepth > 0
        ? grads((...inputs) => normalizeComposed(withInputs(request, inputs)).y)(saved, dy)
        : backward(norm, dy, withInputs(request, saved), made.statistics);
    return { value: made.y, gradFunc };
  });
  const y = call(...[x, gamma, beta].filter((t) => t !== null));
  const { mean, variance } = statistics!;
  const flat = (values: Float64Array) => tfTensor(Float32Array.from(values), [values.length], "float32");
  return { y, mean: mean && flat(mean), variance: flat(variance) };
}

const normOf = ({ plan, given, mask }: NormRequest, valid: Uint8Array | null): HeapNorm =>
  valid ? maskedNorm(valid, (mask as Mask).axis, plan.eps) : fusedNorm(plan, given != null);

/** The same request of other tensors: x, then gamma and beta where there are such. */
function withInputs(request: NormRequest, [x, ...affine]: TFTensor[]): NormRequest {
  const gamma = request.gamma && affine.shift()!;
  return { ...request, x: x!, gamma, beta: request.beta && affine.shift()! };
}

/** A tensor of TensorFlow.js copied to the heap. The type is said since the cpu backend casts integers by name only. */
const put = (t: TFTensor, shape: Shape = t.shape): Tensor =>
  tensor(backends.get(getBackend())!.read(t), { shape, dtype: "float32" });

/** A tensor of the heap copied to TensorFlow.js. */
function take(t: Tensor, shape: Shape): TFTensor {
  const { keepsArrays } = backends.get(getBackend())!;
  return tfTensor((keepsArrays ? t.dataSync() : t.storage.view) as Float32Array, [...shape], "float32");
}

const putDoubles = (values: Float64Array): Tensor => tensor(values, { dtype: "float64" });
const takeDoubles = (t: Tensor): Float64Array => Float64Array.from(t.storage.view);

const ordered = (t: Tensor, order: readonly number[] | null): Tensor => (order ? t.permute(order) : t);
const backInOrder = (t: Tensor, order: readonly number[] | null): Tensor =>
  order ? t.permute(inverseOrder(order)) : t;

const inputsOf = ({ x, gamma, beta, plan: { order, affineShape } }: NormRequest): NormInputs => ({
  x: ordered(put(x), order),
  weight: gamma && put(gamma, affineShape),
  bias: beta && put(beta, affineShape),
});

function forward(norm: HeapNorm, request: NormRequest): { readonly y: TFTensor; readonly statistics: Statistics } {
  const { plan, given, x } = request;
  return scope(() =>
    noGrad(() => {
      const fixed = given ? { mean: put(given.mean), variance: put(given.variance) } : null;
      const { out, statistics } = norm.forward(inputsOf(request), fixed);
      const mean = statistics.mean && takeDoubles(statistics.mean);
      const y = take(backInOrder(out, plan.order), x.shape);
      return { y, statistics: { mean, variance: takeDoubles(statistics.variance) } };
    }),
  );
}

function backward(norm: HeapNorm, dy: TFTensor, request: NormRequest, { mean, variance }: Statistics): TFTensor[] {
  const { plan, x, gamma, beta } = request;
  return scope(() =>
    noGrad(() => {
      const statistics = { mean: mean && putDoubles(mean), variance: putDoubles(variance) };
      const [dx, dWeight, dBias] = norm.backward(ordered(put(dy), plan.order), inputsOf(request), statistics);
      return [
        take(backInOrder(dx!, plan.order), x.shape),
        ...(gamma ? [take(dWeight!, gamma.shape)] : []),
        ...(beta ? [take(dBias!, beta.shape)] : []),
      ];
    }),
  );
}
