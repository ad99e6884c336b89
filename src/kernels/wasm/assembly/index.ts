// All kernels of the module, one family a file. Each is exported as name(args, lo, hi, worker): see docs/add-an-op.md.
export * from "./elementwise";
export * from "./binary";
export * from "./activation";
export * from "./random";
export * from "./optimizers";
export * from "./movement";
export * from "./reduction";
export * from "./softmax";
export * from "./pool";
export * from "./matmul";
export * from "./conv";
export * from "./conv_weight";
export * from "./row_norm";
export * from "./column_norm";
export * from "./column_norm_runs";
export * from "./column_norm_tiles";
export * from "./norm_affine";
