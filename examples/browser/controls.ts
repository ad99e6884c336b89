import { byId, element } from "./elements.js";
import { normalizationChoices } from "./normalization_choices.js";
import { batchSizes, defaults, learningRates, paces, type Settings } from "./settings.js";

interface Choice {
  readonly value: string;
  readonly label: string;
}

const devices: readonly Choice[] = [
  { value: "cpu", label: "CPU" },
  { value: "webgpu", label: "WebGPU" },
];

/** The drop-down lists of the page, as one object of settings. */
export class Controls {
  private readonly device = fill("device", devices, defaults.device);
  private readonly normalization = fill(
    "normalization",
    normalizationChoices.map(({ id, label }) => ({ value: id, label })),
    defaults.normalization,
  );
  private readonly batchSize = fill("batch-size", batchSizes.map(choice), String(defaults.batchSize));
  private readonly learningRate = fill("learning-rate", learningRates.map(choice), String(defaults.learningRate));
  private readonly pace = fill("pace", paces.map(choice), String(defaults.pace));

  constructor(changed: (settings: Settings) => void) {
    for (const list of [this.device, this.normalization, this.batchSize, this.learningRate, this.pace]) {
      list.addEventListener("change", () => {
        this.explain();
        changed(this.settings);
      });
    }
    this.explain();
  }

  get settings(): Settings {
    return {
      device: this.device.value as Settings["device"],
      normalization: this.normalization.value as Settings["normalization"],
      batchSize: Number(this.batchSize.value),
      learningRate: Number(this.learningRate.value),
      pace: Number(this.pace.value),
    };
  }

  /** Where the training really is. */
  set inUse(device: Settings["device"]) {
    this.device.value = device;
  }

  private explain(): void {
    const chosen = normalizationChoices.find(({ id }) => id === this.normalization.value);
    byId("normalization-note").textContent = chosen?.explanation ?? "";
  }
}

function choice(of: number | { readonly value: number; readonly label: string }): Choice {
  return typeof of === "number" ? { value: String(of), label: String(of) } : { ...of, value: String(of.value) };
}

function fill(id: string, choices: readonly Choice[], chosen: string): HTMLSelectElement {
  const list = byId<HTMLSelectElement>(id);
  // A browser that restores what was chosen before a reload would show what the worker does not know.
  list.autocomplete = "off";
  list.append(...choices.map(({ value, label }) => element("option", { value }, [label])));
  list.value = chosen;
  return list;
}
