import type { Slot } from "../memory/heap.js";
import type { ColumnView, RowView } from "../norm/views.js";

/**
 * What a backend computes: the whole interface, on one page. Slots are contiguous, row-major places in memory.
 * Outputs are written in full unless a line says "adds". Backends: reference (float64 loops, the oracle) and wasm
 * (float32, SIMD and threads). A backend that lacks a case throws UnsupportedKernel, and dispatch uses reference.
 */
export interface KernelSet {
  // elementwise
  fill(y: Slot, value: number): void;
  cast(x: Slot, y: Slot): void;
  unary(op: UnaryOp, x: Slot, y: Slot): void;
  binary(op: BinaryOp, a: Slot, b: Slot, y: Slot, plan: BroadcastPlan): void;
  /** y = condition ? a : b, all of one length; condition is non-zero where true. */
  where(condition: Slot, a: Slot, b: Slot, y: Slot): void;
  /** y += scale * x */
  addScaled(x: Slot, y: Slot, scale: number): void;
  /** Activation and its gradient dx = dy * f'(x). `alpha` is leakyRelu's slope. */
  activation(op: ActivationOp, x: Slot, y: Slot, alpha: number): void;
  activationGrad(op: ActivationOp, x: Slot, dy: Slot, dx: Slot, alpha: number): void;
  /** y = weight * f(alpha x + shift) + bias on [rows, size]; weight and bias have `size` elements. */
  dynamicActivation(x: Slot, weight: Slot | null, bias: Slot | null, y: Slot, plan: DynamicPlan): void;
  /** Its gradients; null outputs are not computed. sums (2 elements, float64): those of h x and of h, where dx = alpha h. */
  dynamicActivationGrad(x: Slot, dy: Slot, weight: Slot | null, out: NormGrads, sums: Slot, plan: DynamicPlan): void;

  // movement
  /** y (contiguous, of plan.shape) = x read from plan.offset with plan.strides, in elements; strides may be 0 or negative. */
  gather(x: Slot, y: Slot, plan: StridedPlan): void;
  /** y at plan.offset with plan.strides = x (contiguous, of plan.shape). Leaves the rest of y as it is. */
  scatter(x: Slot, y: Slot, plan: StridedPlan): void;
  /** y[i, :] = table[index[i], :] with rows of `width`; indices are int32 and already checked. */
  embedding(table: Slot, index: Slot, y: Slot, width: number): void;
  /** Adds dy[i, :] to dTable[index[i], :], in the order of i. */
  embeddingGrad(index: Slot, dy: Slot, dTable: Slot, width: number): void;

  // reductions over the middle axis of [outer, reduce, inner]
  reduce(op: ReduceOp, x: Slot, y: Slot, view: ReduceView): void;
  /** int32 position of the first largest element along the middle axis. */
  argMax(x: Slot, y: Slot, view: ReduceView): void;
  /** Along the last axis of [rows, size]. */
  softmax(x: Slot, y: Slot, rows: number, size: number, log: boolean): void;
  softmaxGrad(y: Slot, dy: Slot, dx: Slot, rows: number, size: number, log: boolean): void;
  /** losses[r] = cross entropy of logits row r with class target[r]; 0 where target is ignoreIndex. Also writes log-softmax. */
  crossEntropy(logits: Slot, target: Slot, logProbs: Slot, losses: Slot, options: CrossEntropyOptions): void;
  /** dx[r, :] = scale[r] * (softmax - smoothed one-hot); 0 where ignored. */
  crossEntropyGrad(logProbs: Slot, target: Slot, scale: Slot, dx: Slot, options: CrossEntropyOptions): void;

  // matmul and convolution
  matmul(a: Slot, b: Slot, y: Slot, plan: MatmulPlan): void;
  conv(x: Slot, weight: Slot, bias: Slot | null, y: Slot, plan: ConvPlan): void;
  convInputGrad(dy: Slot, weight: Slot, dx: Slot, plan: ConvPlan): void;
  convWeightGrad(x: Slot, dy: Slot, dWeight: Slot, plan: ConvPlan): void;
  /** Largest of each window; `index` (int32) gets its flat position within the spatial plane. Padding never wins; NaN does. */
  maxPool(x: Slot, y: Slot, index: Slot, plan: PoolPlan): void;
  maxPoolGrad(dy: Slot, index: Slot, dx: Slot, plan: PoolPlan): void;
  avgPool(x: Slot, y: Slot, plan: PoolPlan): void;
  avgPoolGrad(dy: Slot, dx: Slot, plan: PoolPlan): void;
  /** Window i of output axis o spans [floor(i*in/out), ceil((i+1)*in/out)). */
  adaptiveAvgPool(x: Slot, y: Slot, plan: AdaptivePlan): void;
  adaptiveAvgPoolGrad(dy: Slot, dx: Slot, plan: AdaptivePlan): void;

  // normalization; mean and variance (biased) are float64, so that no accuracy is lost between forward and backward.
  // With an activation f, y = f(z) with z = weight * xhat + bias, and dy is the gradient to y; the gradient kernels
  // compute z anew, and without an activation take dx in the place of dy.
  /** Writes statistics of x and y = weight * (x - mean) / sqrt(variance + eps) + bias. */
  columnNorm(
    x: Slot,
    weight: Slot | null,
    bias: Slot | null,
    y: Slot,
    stats: Stats,
    view: ColumnView,
    eps: number,
    activation?: NormActivation | null,
  ): void;
  /** The same with given statistics, which may be float32 or float64. */
  columnNormEval(
    x: Slot,
    weight: Slot | null,
    bias: Slot | null,
    y: Slot,
    stats: Stats,
    view: ColumnView,
    eps: number,
    activation?: NormActivation | null,
  ): void;
  /** Null outputs are not computed. With `frozen` the statistics are constants (evaluation). */
  columnNormGrad(
    x: Slot,
    dy: Slot,
    weight: Slot | null,
    stats: Stats,
    out: NormGrads,
    view: ColumnView,
    eps: number,
    frozen: boolean,
    activation?: NormActivationGrad | null,
  ): void;
  /** Statistics alone. */
  columnMoments(x: Slot, stats: Stats, view: ColumnView): void;
  /** sums [2, batch * channels], float64: of dy, and of dy * (x - mean). */
  columnSums(x: Slot, dy: Slot, stats: Stats, sums: Slot, view: ColumnView): void;
  /**
   * dx where statistics were taken from more (or fewer) values than x has: `sums` as columnSums gives them, but of all
   * those values; `counts`, float64, how many they were for each statistic.
   */
  columnDx(
    x: Slot,
    dy: Slot,
    weight: Slot | null,
    stats: Stats,
    sums: Slot,
    counts: Slot,
    dx: Slot,
    view: ColumnView,
    eps: number,
  ): void;
  /** With stats.mean null: root mean square, no centring; stats.variance then holds the mean of squares. */
  rowNorm(
    x: Slot,
    weight: Slot | null,
    bias: Slot | null,
    y: Slot,
    stats: RowStats,
    view: RowView,
    eps: number,
    activation?: NormActivation | null,
  ): void;
  rowNormGrad(
    x: Slot,
    dy: Slot,
    weight: Slot | null,
    stats: RowStats,
    out: NormGrads,
    view: RowView,
    eps: number,
    activation?: NormActivationGrad | null,
  ): void;
  /** Writes sum = x + residual, and statistics and y of that sum as rowNorm does. */
  addRowNorm(
    x: Slot,
    residual: Slot,
    sum: Slot,
    weight: Slot | null,
    bias: Slot | null,
    y: Slot,
    stats: RowStats,
    view: RowView,
    eps: number,
  ): void;
  /** running = (1 - weight) * running + weight * scale * average over `repeat` groups of batch ([repeat, running.length], float64). */
  updateRunning(running: Slot, batch: Slot, repeat: number, weight: number, scale: number): void;

  // random numbers: value i depends on key and i alone, so any split gives the same bits
  /** y[i] = keepScale with probability `keep`, else 0. */
  dropoutMask(y: Slot, keep: number, keepScale: number, key: number): void;

  // optimizers: parameters, gradients and state of many tensors in one pass; the formulas of torch.optim. Place i of each
  // list belongs to tensor i; all have one type.
  sgd(p: Slots, g: Slots, velocity: Slots | null, o: SgdStep): void;
  adam(p: Slots, g: Slots, m: Slots, v: Slots, o: AdamStep): void;
  rmsprop(p: Slots, g: Slots, square: Slots, average: Slots | null, velocity: Slots | null, o: RmspropStep): void;
  /** sums[i], rounded to the type of that slot = the sum of the squares of xs[i]. */
  sumSquaresOf(xs: Slots, sums: Slot): void;
  /** Each element of each x times `factor`, which is rounded to the type of x first. */
  scaleOf(xs: Slots, factor: number): void;
}

export type Slots = readonly Slot[];
export type UnaryOp =
  | "neg"
  | "abs"
  | "sign"
  | "square"
  | "sqrt"
  | "rsqrt"
  | "reciprocal"
  | "exp"
  | "log"
  | "log1p"
  | "expm1"
  | "tanh"
  | "erf"
  | "sigmoid"
  | "softplus"
  | "sin"
  | "cos"
  | "floor"
  | "ceil"
  | "round"
  | "isNaN"
  | "not";
export type BinaryOp =
  | "add"
  | "sub"
  | "mul"
  | "div"
  | "pow"
  | "maximum"
  | "minimum"
  | "equal"
  | "notEqual"
  | "less"
  | "lessEqual"
  | "greater"
  | "greaterEqual";
export type ActivationOp = "relu" | "leakyRelu" | "gelu" | "geluTanh" | "silu" | "sigmoid" | "tanh";
export interface DynamicPlan {
  readonly op: "tanh" | "erf";
  readonly rows: number;
  readonly size: number;
  readonly alpha: number;
  readonly shift: number;
}
export type ReduceOp = "sum" | "max" | "min" | "prod" | "sumSquares" | "sumAbs";

/** Result shape with neighbouring axes merged where both inputs allow it, and the element strides of a and b (0 = repeated). */
export interface BroadcastPlan {
  readonly shape: readonly number[];
  readonly aStrides: readonly number[];
  readonly bStrides: readonly number[];
}
export interface StridedPlan {
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly offset: number;
}
export interface ReduceView {
  readonly outer: number;
  readonly reduce: number;
  readonly inner: number;
}
export interface CrossEntropyOptions {
  readonly rows: number;
  readonly classes: number;
  readonly smoothing: number;
  readonly ignoreIndex: number;
}
/** y[b] = A[b] B[b], A m x k and B k x n after transposition; a batch stride of 0 repeats one matrix. `bias` (length n) is added to each row. */
export interface MatmulPlan {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly aBatchStride: number;
  readonly bBatchStride: number;
  readonly bias: Slot | null;
}
export type Triple = readonly [number, number, number];
/** Convolution of any rank up to 3, as depth, height, width (length 1 where an axis is missing). x [batch, inChannels, ...input],
 *  y [batch, outChannels, ...output], weight [outChannels, inChannels / groups, ...kernel]. */
export interface ConvPlan {
  readonly batch: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly groups: number;
  readonly input: Triple;
  readonly output: Triple;
  readonly kernel: Triple;
  readonly stride: Triple;
  readonly padding: Triple;
  readonly dilation: Triple;
}
/** Windows over [planes, ...input]; planes = batch * channels. */
export interface PoolPlan {
  readonly planes: number;
  readonly input: Triple;
  readonly output: Triple;
  readonly kernel: Triple;
  readonly stride: Triple;
  readonly padding: Triple;
  readonly dilation: Triple;
  readonly countIncludePad: boolean;
}
export interface AdaptivePlan {
  readonly planes: number;
  readonly input: Triple;
  readonly output: Triple;
}
export interface Stats {
  readonly mean: Slot;
  readonly variance: Slot;
}
export interface RowStats {
  readonly mean: Slot | null;
  readonly variance: Slot;
}
export interface NormActivation {
  readonly op: ActivationOp;
  /** leakyRelu's slope below 0. */
  readonly alpha: number;
}
/** What the gradient needs beside it to compute what went into the activation. */
export interface NormActivationGrad extends NormActivation {
  readonly bias: Slot | null;
}
export interface NormGrads {
  readonly dx: Slot | null;
  readonly dWeight: Slot | null;
  readonly dBias: Slot | null;
}
export interface SgdStep {
  readonly lr: number;
  readonly momentum: number;
  readonly dampening: number;
  readonly weightDecay: number;
  readonly nesterov: boolean;
  readonly first: boolean;
  readonly maximize: boolean;
}
/** correction1 = 1 - beta1^t and correction2 = 1 - beta2^t, kept by the optimizer as running products. */
export interface AdamStep {
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  readonly decoupled: boolean;
  readonly correction1: number;
  readonly correction2: number;
  readonly maximize: boolean;
}
export interface RmspropStep {
  readonly lr: number;
  readonly alpha: number;
  readonly eps: number;
  readonly weightDecay: number;
  readonly momentum: number;
  readonly maximize: boolean;
}
