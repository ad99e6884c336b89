import * as ort from "onnxruntime-web";
import type { Tensor } from "../../../src/index.js";

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

export interface Ran {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

const kinds = { float32: "float32", float64: "float64", int32: "int32", float16: "float16" } as const;

/** Runs an ONNX file's bytes in onnxruntime-web's wasm backend. `types`: an input's type where it is not the tensor's. */
export async function runOnnx(
  bytes: Uint8Array,
  inputs: Readonly<Record<string, Tensor>>,
  types: Readonly<Record<string, "int64">> = {},
  externalData: { path: string; data: Uint8Array }[] = [],
): Promise<Map<string, Ran>> {
  const session = await ort.InferenceSession.create(bytes, { externalData });
  try {
    const feeds = Object.entries(inputs).map(([name, t]) => {
      const wide = types[name] === "int64";
      const data = wide ? BigInt64Array.from(t.dataSync() as Int32Array, BigInt) : t.dataSync();
      return [name, new ort.Tensor(wide ? "int64" : kinds[t.dtype], data as never, t.shape)] as const;
    });
    const results = await session.run(Object.fromEntries(feeds));
    return new Map(
      Object.entries(results).map(([name, t]) => [name, { shape: t.dims, data: t.data as ArrayLike<number> }]),
    );
  } finally {
    await session.release();
  }
}

/** Largest |a - b| / (1 + |b|); NaN where only one of the two is one. */
export function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    if (Object.is(a[i], b[i])) continue;
    const d = Math.abs(a[i]! - b[i]!) / (1 + Math.abs(b[i]!));
    if (!(d <= most)) most = d;
  }
  return most;
}
