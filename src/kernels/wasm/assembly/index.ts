// All kernels of the module, one family a file. Each is exported as name(args, lo, hi, worker): see docs/add-an-op.md.
export * from "./fill";
