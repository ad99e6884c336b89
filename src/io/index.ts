// Everything under `evenkeel/io`: models and tensors in the formats of others.
export type { ByteSource } from "./source/byte_source.js";
