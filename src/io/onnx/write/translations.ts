import { columnOps } from "./column.js";
import { windows } from "./conv.js";
import { elementwise } from "./elementwise.js";
import type { Translation } from "./exporter.js";
import { loaded } from "./loaded.js";
import { movement } from "./movement.js";
import { norms } from "./norm.js";

/** How each op of Evenkeel's forward passes is written in ONNX, by the op's name. Gradients are not among them. */
export const translations: ReadonlyMap<string, Translation> = new Map(
  [elementwise, movement, windows, norms, columnOps, loaded].flatMap((table) => Object.entries(table)),
);
