import type { Device, Settings } from "./settings.js";
import type { LayerStatistics } from "./statistics.js";

/** What the page asks of the worker. */
export type Request =
  | { readonly type: "configure"; readonly settings: Settings }
  | { readonly type: "run" }
  | { readonly type: "pause" }
  | { readonly type: "reset" }
  /** An image of 8 x 8, as preprocess.ts makes it; null where there is none. Its answer comes again whenever the weights changed. */
  | { readonly type: "classify"; readonly pixels: Float32Array | null };

export type Phase = "loading" | "idle" | "preparing" | "running" | "paused" | "failed";

/** What the worker tells the page. */
export type Report =
  | { readonly type: "phase"; readonly phase: Phase; readonly text: string }
  /** How the device that is in use can be described, in a sentence. */
  | { readonly type: "device"; readonly device: Device; readonly text: string }
  /** A new model: what was shown of the old one goes. */
  | { readonly type: "restarted"; readonly parameters: number }
  | { readonly type: "progress"; readonly progress: Progress }
  | { readonly type: "evaluated"; readonly step: number; readonly loss: number; readonly accuracy: number }
  | { readonly type: "layers"; readonly step: number; readonly layers: readonly LayerStatistics[] }
  | { readonly type: "classified"; readonly probabilities: Float32Array; readonly step: number }
  | { readonly type: "failed"; readonly text: string };

export interface Progress {
  /** The step of the last of these losses. */
  readonly step: number;
  readonly epoch: number;
  readonly losses: readonly number[];
  /** Over about the last second; null before there is one. */
  readonly stepsPerSecond: number | null;
}
