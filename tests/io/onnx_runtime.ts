import * as ort from "onnxruntime-web";
import { type NumberArray, type Tensor, tensor } from "../../src/index.js";
import type { OnnxModule } from "../../src/io/onnx/model.js";
import type { Numbers } from "./onnx_model.js";

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "fatal";

const arrays = {
  ...{ float32: Float32Array, float64: Float64Array, int32: Int32Array, int8: Int8Array, uint8: Uint8Array },
  ...{ int16: Int16Array, uint16: Uint16Array, bool: Uint8Array },
} as const;

function runtimeTensor({ type, shape, data }: Numbers): ort.Tensor {
  if (type === "int64") return new ort.Tensor("int64", BigInt64Array.from(data.map(BigInt)), shape);
  const Kind = arrays[type as keyof typeof arrays];
  return new ort.Tensor(type as "float32", Kind.from(data) as Float32Array, shape);
}

export interface Result {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

/** What onnxruntime makes of a model, by output name. */
export async function runtimeOutputs(
  bytes: Uint8Array,
  inputs: Readonly<Record<string, Numbers>>,
): Promise<Map<string, Result>> {
  const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 4, graphOptimizationLevel: "disabled" });
  const feeds = Object.fromEntries(Object.entries(inputs).map(([name, v]) => [name, runtimeTensor(v)]));
  const made = await session.run(feeds);
  const results = new Map<string, Result>();
  for (const name of session.outputNames) {
    const t = made[name]!;
    results.set(name, { shape: [...t.dims], data: Array.from(t.data as Float32Array, Number) });
  }
  await session.release();
  return results;
}

export const ownTensor = ({ type, shape, data }: Numbers): Tensor =>
  tensor(data, { shape, dtype: type === "float64" ? "float64" : type.includes("float") ? "float32" : "int32" });

export function ownOutputs(model: OnnxModule, inputs: Readonly<Record<string, Numbers>>): Map<string, Result> {
  const feeds = Object.fromEntries(Object.entries(inputs).map(([name, v]) => [name, ownTensor(v)]));
  const made = model.run(feeds);
  return new Map(
    Object.entries(made).map(([name, t]) => [name, { shape: t.shape, data: Array.from(t.dataSync() as NumberArray) }]),
  );
}

/** The largest difference, beside the largest number where that is above 1. Infinite where shapes or NaN differ. */
export function difference(a: Result, b: Result): number {
  if (a.shape.join() !== b.shape.join() || a.data.length !== b.data.length) return Number.POSITIVE_INFINITY;
  let most = 0;
  let scale = 1;
  for (const v of b.data) if (Number.isFinite(v)) scale = Math.max(scale, Math.abs(v));
  for (const [i, v] of a.data.entries()) {
    const w = b.data[i]!;
    if (Object.is(v, w) || v === w) continue;
    const d = Math.abs(v - w);
    most = Number.isNaN(d) ? Number.POSITIVE_INFINITY : Math.max(most, d);
  }
  return most / scale;
}
