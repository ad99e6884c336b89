import { checkOps, normal, type OpCase } from "../../../tests/conformance/op_harness.js";
import { localResponseNorm, mapResponseNorm } from "./local_response_norm.js";

const base = { size: 3, alpha: 0.7, beta: 0.75, k: 0.9, divide: "size", lean: "left" } as const;

const across: OpCase[] = [
  { size: 3, axis: 1 },
  { size: 4, axis: 1 },
  { size: 4, axis: 1, lean: "right" as const },
  { size: 4, axis: -1 },
  { size: 2, axis: -1, lean: "right" as const },
  { size: 9, axis: 1, divide: "none" as const },
  { size: 12, axis: 2 },
  { size: 1, axis: 0 },
].map((o) => ({
  name: `across channels ${JSON.stringify(o)}`,
  inputs: [normal([3, 5, 7])],
  apply: (x) => localResponseNorm(x!, { ...base, ...o }),
}));

const within: OpCase[] = [
  { shape: [2, 3, 9], size: 4 },
  { shape: [2, 2, 4, 5], size: 3 },
  { shape: [2, 2, 4, 5], size: 2 },
  { shape: [2, 2, 4, 5], size: 2, lean: "right" as const },
  { shape: [1, 2, 3, 4, 3], size: 2, divide: "none" as const },
].map(({ shape, ...o }) => ({
  name: `within maps of [${shape}] ${JSON.stringify(o)}`,
  inputs: [normal(shape)],
  apply: (x) => mapResponseNorm(x!, { ...base, ...o }),
}));

const exponents: OpCase[] = [0, 0.5, 1, 0.6].map((beta) => ({
  name: `beta ${beta}`,
  inputs: [normal([2, 5, 3])],
  apply: (x) => localResponseNorm(x!, { ...base, beta, axis: 1 }),
}));

checkOps("local_response_norm", [...across, ...within, ...exponents]);
