import { elementInputs, elementsOf } from "./elements.js";
import { normInputs, normsOf } from "./norms.js";
import { conv, convInputs, matmul, matmulInputs } from "./products.js";
import { RandomInputs } from "./random.js";
import { step } from "./steps.js";

/** Types of the operands that the library has on the device, and bytes of a number. */
const dtypes = { float32: 4 };

/** Normalizations by layer and layout; "last" of layers and RMS is rows, "first" all of [C, H, W]. */
const chosen = [
  ...["batch first", "batch last", "layer first", "group first", "group last", "instance first", "instance last"],
  ...["layer last", "rms last", "batch1d last"],
];

const rows = { gpu: [16384, 4096], tiny: [128, 512] };
const squares = { gpu: [1024, 2048, 4096], tiny: [128] };
const images = { gpu: 64, tiny: 4 };
const models = { gpu: ["digits-cnn", "mlp", "transformer"], tiny: ["digits-cnn"] };

/** A case, made for float32, with operands of this type. */
function typed(c, dtype) {
  if (dtype === "float32") return { ...c, dtype };
  const share = dtypes[dtype] / dtypes.float32;
  const traffic =
    c.traffic && Object.fromEntries(Object.entries(c.traffic).map(([mode, bytes]) => [mode, share * bytes]));
  return { ...c, dtype, id: `${c.id} ${dtype}`, traffic, bytes: c.bytes && share * c.bytes };
}

function casesOf(size) {
  const norms = normsOf([size]).filter(({ norm, layout }) => chosen.includes(`${norm} ${layout}`));
  const large = norms.map((c) => ({ ...c, bytes: c.traffic.eval / 2 }));
  return Object.keys(dtypes).flatMap((dtype) =>
    [
      ...large,
      ...elementsOf(size, rows[size]),
      ...squares[size].map((n) => matmul(String(n), n, n, n)),
      ...[conv("3x3 1>32 28x28", images[size], 1, 28, 32, 3), conv("3x3 32>64 14x14", images[size], 32, 14, 64, 3)],
      ...models[size].map((model) => ({ ...step(model), modes: ["queue"] })),
    ].map((c) => typed(c, dtype)),
  );
}

/** By size: "gpu" outgrows the caches of a large one, "tiny" is for one in software. */
export const gpuCells = Object.fromEntries(
  Object.keys(rows).map((size) => [
    size,
    casesOf(size).flatMap((subject) => subject.modes.map((mode) => ({ name: `${subject.id} ${mode}`, subject, mode }))),
  ]),
);

const inputs = { norm: normInputs, elements: elementInputs, matmul: matmulInputs, conv: convInputs, step: () => ({}) };

export const makeGpuInputs = (subject) => inputs[subject.kind](subject, new RandomInputs(12345));
