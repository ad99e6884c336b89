/**
 * What does not run on WebGPU, forward and backward, each with its reason: public functions, methods of Tensor and layers. The
 * suites hold it both ways: what stands here throws a DeviceError there, and what does not agrees with the CPU.
 */
export const offDevice: Readonly<Record<string, string>> = {};
