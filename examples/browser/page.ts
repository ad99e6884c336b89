import { Charts } from "./charts.js";
import { Controls } from "./controls.js";
import { byId, element } from "./elements.js";
import { clearLayers, showLayers } from "./layer_table.js";
import type { Phase, Report, Request } from "./messages.js";
import { compact, count, percent } from "./numbers.js";
import { Pad, showImage } from "./pad.js";
import { imageOf, type Stroke } from "./preprocess.js";
import { Probabilities } from "./probabilities.js";
import { sampleDigits } from "./sample_digits.js";

const GOAL = 0.95;
const NOTHING = "–";

const worker = new Worker(new URL("./training_worker.ts", import.meta.url), { type: "module" });
const ask = (request: Request): void => worker.postMessage(request);

const charts = new Charts(byId("charts"));
const controls = new Controls((settings) => {
  showAlert(null);
  ask({ type: "configure", settings });
});
const probabilities = new Probabilities(byId("probabilities"), byId("verdict"));
const [layers, layersStep] = [byId("layers"), byId("layers-step")];
const [run, reset] = [byId<HTMLButtonElement>("run"), byId<HTMLButtonElement>("reset")];
const seen = byId<HTMLCanvasElement>("seen");
let phase: Phase = "loading";
let image: Float32Array | null = null;

const pad = new Pad(byId("pad"), (strokes) => classify(strokes));
byId("clear").addEventListener("click", () => pad.clear());
const samples = element("div");
for (const [digit, strokes] of sampleDigits.entries()) {
  const button = element("button", { type: "button", "aria-label": `Put a ${digit} on the pad` }, [String(digit)]);
  button.addEventListener("click", () => pad.set(strokes));
  samples.append(button);
}
byId("samples").append(samples);

run.addEventListener("click", () => {
  const going = isGoing(phase);
  if (!going) showAlert(null);
  ask({ type: going ? "pause" : "run" });
});
reset.addEventListener("click", () => {
  showAlert(null);
  ask({ type: "reset" });
});

function classify(strokes: readonly Stroke[]): void {
  image = imageOf(strokes);
  showImage(seen, image);
  ask({ type: "classify", pixels: image });
  if (!image) probabilities.clear();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => showImage(seen, image));

const isGoing = (now: Phase): boolean => now === "running" || now === "preparing";

function showPhase(now: Phase, text: string): void {
  phase = now;
  byId("status").textContent = text;
  document.body.dataset.phase = now;
  run.textContent = isGoing(now) ? "Pause" : "Start";
  run.disabled = now === "loading";
  reset.disabled = now === "loading";
}

function showAlert(text: string | null): void {
  const alert = byId("alert");
  alert.hidden = text === null;
  alert.textContent = text;
}

function showNothing(): void {
  charts.clear();
  clearLayers(layers, layersStep);
  byId("step").textContent = "0";
  byId("epoch").textContent = "1";
  for (const id of ["loss", "accuracy", "speed", "reached"]) byId(id).textContent = NOTHING;
}

const answers: { readonly [T in Report["type"]]: (report: Extract<Report, { type: T }>) => void } = {
  phase: ({ phase, text }) => showPhase(phase, text),
  device: ({ device, text }) => {
    controls.inUse = device;
    byId("device-note").textContent = text;
  },
  restarted: () => showNothing(),
  progress: ({ progress }) => {
    charts.addLosses(progress);
    byId("step").textContent = count(progress.step);
    byId("epoch").textContent = count(progress.epoch);
    byId("loss").textContent = compact(progress.losses.at(-1)!);
    const { stepsPerSecond: speed } = progress;
    if (speed !== null) byId("speed").textContent = speed < 10 ? speed.toFixed(1) : count(Math.round(speed));
  },
  evaluated: ({ step, loss, accuracy }) => {
    charts.addEvaluation(step, loss, accuracy);
    byId("accuracy").textContent = percent(accuracy);
    const reached = byId("reached");
    if (accuracy >= GOAL && reached.textContent === NOTHING) reached.textContent = count(step);
  },
  layers: ({ step, layers: statistics }) => {
    charts.addLayers(step, statistics);
    showLayers(layers, layersStep, step, statistics);
  },
  classified: ({ probabilities: values, step }) => {
    if (image) probabilities.show(values, step);
  },
  failed: ({ text }) => showAlert(text),
};

showNothing();
worker.addEventListener("message", ({ data }: MessageEvent<Report>) => {
  (answers[data.type] as (report: Report) => void)(data);
});
worker.addEventListener("error", (event) => {
  showPhase("failed", "Stopped.");
  showAlert(
    `The training thread did not start: ${event.message || "its script could not be loaded"}. Reload the page.`,
  );
});
