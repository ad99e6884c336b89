// What upper rooms import: the Tensor with its methods attached, creation, differentiation, and the op contract.
import "./methods.js";

export { type BackwardOptions, backward, backwardTo, type GradOptions, grad } from "./backward.js";
export { type Captured, type CaptureOptions, capture } from "./capture.js";
export { checkDevice } from "./check_device.js";
export { checkNumbers } from "./check_numbers.js";
export { recompute, type Surroundings } from "./checkpoint.js";
export { arange, full, ones, rand, randn, type TensorOptions, tensor, zeros } from "./create.js";
export { type GradientWatcher, type PassBeginning, watchGradients } from "./gradient_watch.js";
export { enableGrad, isRecording, Need, noGrad, Vertex } from "./graph.js";
export { defineOp, type Op, type OpInputs } from "./op.js";
export { where } from "./ops/elementwise.js";
export { linear, matmul } from "./ops/matmul.js";
export { concat, stack } from "./ops/movement.js";
export { bytesOf, isTraced, type OpCall, type Phase, type Probe, probe, setProbe } from "./probe.js";
export { type Profile, type ProfileEntry, profile } from "./profile.js";
export { type NestedArray, Tensor } from "./tensor.js";
export { copyOnCPU } from "./to_device.js";
export { written } from "./written.js";
