// The public names of `evenkeel`.
export {
  arange,
  type BackwardOptions,
  type Captured,
  type CaptureOptions,
  capture,
  concat,
  enableGrad,
  full,
  type GradOptions,
  grad,
  matmul,
  type NestedArray,
  noGrad,
  ones,
  type Profile,
  type ProfileEntry,
  profile,
  rand,
  randn,
  stack,
  Tensor,
  type TensorOptions,
  tensor,
  where,
  zeros,
} from "./autograd/index.js";
export type { DType, NumberArray } from "./base/dtype.js";
export {
  CommunicationError,
  DeviceError,
  DTypeError,
  EvenkeelError,
  FileError,
  FormatError,
  NonFiniteError,
  OptionError,
  OutOfMemoryError,
  ShapeError,
  StateError,
  UnsupportedKernel,
} from "./base/errors.js";
export { manualSeed, Random, type RandomState } from "./base/random.js";
export type { Shape } from "./base/shape.js";
export { type BlasInfo, getBlas, setBlas } from "./kernels/blas/index.js";
export { getThreads, setThreads } from "./kernels/threads/pool.js";
export { memoryStats } from "./memory/heap.js";
export { scope } from "./memory/scope.js";
export { checkpoint, checkpointSequential } from "./nn/checkpoint.js";
export * as F from "./nn/functional.js";
export * as nn from "./nn/index.js";
export * as optim from "./optim/index.js";
