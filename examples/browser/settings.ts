import type { NormalizationId } from "./normalization_choices.js";

export type Device = "cpu" | "webgpu";

/** What the page lets one choose. */
export interface Settings {
  readonly device: Device;
  readonly normalization: NormalizationId;
  readonly batchSize: number;
  readonly learningRate: number;
  /** Steps a second at most; 0 for as fast as it goes. */
  readonly pace: number;
}

export const batchSizes = [2, 4, 8, 16, 32, 64, 128] as const;

export const learningRates: readonly { readonly value: number; readonly label: string }[] = [
  { value: 0.0005, label: "0.0005" },
  { value: 0.002, label: "0.002" },
  { value: 0.005, label: "0.005" },
  { value: 0.02, label: "0.02" },
  { value: 0.1, label: "0.1 (large)" },
  { value: 1e6, label: "1,000,000 (breaks it)" },
];

export const paces: readonly { readonly value: number; readonly label: string }[] = [
  { value: 0, label: "none" },
  { value: 20, label: "20 steps/s" },
  { value: 4, label: "4 steps/s" },
];

export const defaults: Settings = {
  device: "cpu",
  normalization: "batch",
  batchSize: 32,
  learningRate: 0.005,
  pace: 0,
};
