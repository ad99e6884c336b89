import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Participant } from "./process.js";

const path = (file) => fileURLToPath(new URL(file, import.meta.url));
const script = (file) => (options) => [process.execPath, [path(file), JSON.stringify(options)]];

/**
 * Who takes part. `threads` says which thread counts a library can be held to: TensorFlow.js and jax-js run on one in
 * Node. `kinds` leaves out what says nothing: BLAS has no part in normalization.
 */
const libraries = [
  { name: "evenkeel", command: script("./evenkeel/main.js") },
  {
    name: "evenkeel+blas",
    command: script("./evenkeel/main.js"),
    options: { blas: true },
    kinds: ["matmul", "conv", "step"],
  },
  { name: "torch", command: (options) => [python(), [path("./torch/main.py"), JSON.stringify(options)]] },
  { name: "tfjs-wasm", command: script("./tensorflow/main.js"), options: { backend: "wasm" }, threads: 1 },
  { name: "jax-js", command: script("./jax/main.js"), threads: 1 },
  // Plain JavaScript needs minutes for a training step.
  {
    name: "tfjs-cpu",
    command: script("./tensorflow/main.js"),
    options: { backend: "cpu" },
    threads: 1,
    kinds: ["norm"],
  },
];

export const peerNames = libraries.slice(1).map(({ name }) => name);

/** Debian's torch belongs to the system's Python, which need not be the first one in PATH. */
const python = () => process.env.BENCH_PYTHON ?? "/usr/bin/python3";

/**
 * OpenBLAS's threads spin for 2^26 cycles after a product, and slowed those whose turn it was down to one core; after 2^22
 * they sleep, and products on end take the same time.
 */
const THREAD_TIMEOUT = "22";

/** OpenBLAS before 0.3.26 takes newer AVX-512 processors for Haswell, at half the speed; torch gets it as it should be. */
function blasCore() {
  if (process.env.OPENBLAS_CORETYPE) return {};
  try {
    return readFileSync("/proc/cpuinfo", "utf8").includes("avx512f") ? { OPENBLAS_CORETYPE: "SKYLAKEX" } : {};
  } catch {
    return {};
  }
}

/** Starts those of `wanted` that can run on `threads` threads. */
export async function startParticipants(wanted, threads) {
  const env = {
    ...{ OPENBLAS_THREAD_TIMEOUT: THREAD_TIMEOUT, ...blasCore() },
    ...{ OMP_NUM_THREADS: String(threads), OPENBLAS_NUM_THREADS: String(threads) },
    // Unbound, torch's second thread at times woke on the first one's core and its times rose tenfold.
    OMP_PROC_BIND: "true",
  };
  const chosen = libraries.filter(
    (l) => (l.name === "evenkeel" || wanted.includes(l.name)) && (l.threads ?? threads) === threads,
  );
  return Promise.all(
    chosen.map(async ({ name, command, options, kinds }) => {
      const participant = await new Participant(name, ...command({ name, threads, ...options }), env).start();
      return Object.assign(participant, { takes: (kind) => !kinds || kinds.includes(kind) });
    }),
  );
}

/** Evenkeel's float64 path, which is the plain reference loops: what every result is held against. */
export const startReference = () =>
  new Participant(
    "reference",
    ...script("./evenkeel/main.js")({ name: "reference", threads: 1, dtype: "float64" }),
    {},
  ).start();

/** Evenkeel on the GPU; with `traffic` its shaders count what they load and store. */
export const startGpu = (options = {}) =>
  new Participant("evenkeel", ...script("./evenkeel/gpu.js")({ name: "evenkeel", ...options }), {}).start();

/** Torch on the same GPU, where it finds one, and in float64 as the judge of results. */
export const startTorch = () =>
  new Participant(
    "torch",
    python(),
    [path("./torch/main.py"), JSON.stringify({ name: "torch", cuda: true })],
    {},
  ).start();
