import { DeviceError, getThreads } from "evenkeel";
import { initWebGPU } from "evenkeel/webgpu";
import type { Phase, Report, Request } from "./messages.js";
import { type Device, defaults, type Settings } from "./settings.js";
import { SpeedMeter } from "./speed_meter.js";
import { type StepResult, Training } from "./training.js";

/** Milliseconds of steps between two looks into the inbox: what the page asks is answered within about this. */
const SLICE = 25;
/** Milliseconds between two reports of progress: oftener than the eye follows would only keep the page busy. */
const REPORT_EVERY = 100;
/** Steps that a GPU may have queued before the loss of the first of them is there. */
const MOST_IN_FLIGHT = 4;
/** Steps a second below which none is queued ahead: the page would wait for all of them when it asks for something. */
const SLOW = 20;
/** Steps after which training pauses by itself. */
const ROUND = 3000;

const port = globalThis as unknown as {
  postMessage(report: Report): void;
  onmessage: ((event: MessageEvent<Request>) => void) | null;
};

const inbox: Request[] = [];
let wake: (() => void) | null = null;
port.onmessage = ({ data }) => {
  inbox.push(data);
  wake?.();
};

/** Returns when there is a message, and after `milliseconds` without one. */
function messageOr(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = milliseconds < Number.POSITIVE_INFINITY ? setTimeout(() => wake?.(), milliseconds) : undefined;
    wake = () => {
      clearTimeout(timer);
      wake = null;
      resolve();
    };
  });
}

/** Lets messages in, without the 4 ms that browsers add to nested timers. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** The training on this worker: it answers requests one after the other, and trains in between. */
class Session {
  private settings: Settings = defaults;
  private training: Training | null = null;
  private running = false;
  private roundEnd = ROUND;
  private pixels: Float32Array | null = null;
  private readonly flying: Promise<StepResult>[] = [];
  private readonly speed = new SpeedMeter();
  private losses: number[] = [];
  private reported = 0;
  private phase: Phase = "loading";

  async live(): Promise<never> {
    this.describeDevice("cpu");
    await this.guarded(() => this.restart());
    this.say("idle", "Ready to learn 1,437 handwritten digits.");
    for (;;) {
      const request = inbox.shift();
      if (request) await this.guarded(() => this.answer(request));
      else if (this.running) await this.guarded(() => this.trainSlice());
      else await messageOr(Number.POSITIVE_INFINITY);
    }
  }

  private async answer(request: Request): Promise<void> {
    if (request.type === "configure") await this.configure(request.settings);
    else if (request.type === "run") await this.run();
    else if (request.type === "pause") await this.pause("paused", "Paused.");
    else if (request.type === "reset") await this.reset();
    else {
      this.pixels = request.pixels;
      // A quick hand draws faster than a slow device classifies: only the newest counts.
      if (!inbox.some(({ type }) => type === "classify")) await this.classify();
    }
  }

  private async configure(settings: Settings): Promise<void> {
    const before = this.settings;
    this.settings = settings;
    if (settings.device !== before.device) await this.moveTo(settings.device, before.device);
    if (settings.normalization !== before.normalization) await this.restart();
    if (!this.training) return;
    this.training.batchSize = settings.batchSize;
    this.training.learningRate = settings.learningRate;
  }

  /** Where there is no GPU, training stays where it is and goes on. */
  private async moveTo(device: Device, from: Device): Promise<void> {
    let text: string | null = null;
    try {
      if (device === "webgpu") text = await this.startGpu();
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      this.settings = { ...this.settings, device: from };
      this.describeDevice(from);
      port.postMessage({ type: "failed", text: `No WebGPU here, so training stays on the CPU. ${error.message}` });
      return;
    }
    this.describeDevice(device, text);
    await this.land();
    await this.training?.moveTo(device);
    this.speed.clear();
  }

  private async startGpu(): Promise<string> {
    const { vendor, architecture, description } = await initWebGPU();
    const name = [...new Set([vendor, architecture, description])].filter((part) => part !== "").join(", ");
    return `WebGPU${name ? ` (${name})` : ""}.`;
  }

  private describeDevice(device: Device, text: string | null = null): void {
    port.postMessage({ type: "device", device, text: text ?? cpuText() });
  }

  private async restart(): Promise<void> {
    this.flying.length = 0;
    this.training?.dispose();
    this.training = null;
    this.losses = [];
    this.roundEnd = ROUND;
    this.speed.clear();
    const { device } = this.settings;
    if (device === "webgpu") await initWebGPU();
    const training = new Training(this.settings);
    if (device === "webgpu") await training.moveTo(device);
    this.training = training;
    port.postMessage({ type: "restarted", parameters: training.parameters });
    await this.classify();
  }

  private async reset(): Promise<void> {
    this.running = false;
    await this.restart();
    this.say("idle", "Reset: the weights are new.");
  }

  private async run(): Promise<void> {
    if (!this.training) await this.restart();
    if (this.training!.step >= this.roundEnd) this.roundEnd += ROUND;
    this.running = true;
    this.speed.clear();
    if (this.settings.device === "webgpu") this.say("preparing", "Compiling shaders for the first step.");
    else this.say("running", "Training.");
  }

  private async pause(phase: Phase, text: string): Promise<void> {
    this.running = false;
    await this.land();
    this.say(phase, text);
  }

  /** Steps until others want a turn. */
  private async trainSlice(): Promise<void> {
    const until = performance.now() + SLICE;
    do {
      await this.takeStep();
    } while (this.running && performance.now() < until && this.settings.pace === 0);
    if (performance.now() - this.reported > REPORT_EVERY || this.settings.pace > 0) await this.report();
    const { pace } = this.settings;
    if (pace > 0 && this.running) await messageOr(1000 / pace);
    else await turn();
  }

  private async takeStep(): Promise<void> {
    const training = this.training!;
    const next = training.step + 1;
    const look = isLook(next);
    const flight = training.takeStep(look);
    // When a step fails, those behind it fail too, and nobody waits for them any more.
    flight.catch(() => {});
    this.flying.push(flight);
    const ahead = training.device === "webgpu" && !look && (this.speed.rate ?? 0) > SLOW;
    const room = ahead ? MOST_IN_FLIGHT : 0;
    while (this.flying.length > room) this.take(await this.flying.shift()!);
    if (look) await this.evaluate();
    if (this.running && training.step >= this.roundEnd) {
      await this.pause("paused", `${training.step.toLocaleString("en")} steps are done. Start goes on.`);
    }
  }

  /** Waits for the steps that a GPU still has. */
  private async land(): Promise<void> {
    while (this.flying.length > 0) this.take(await this.flying.shift()!);
    await this.report();
  }

  private take({ step, loss, layers }: StepResult): void {
    if (!Number.isFinite(loss)) throw new Error(brokenText(step, loss, this.settings));
    this.losses.push(loss);
    this.speed.add(performance.now());
    if (layers) port.postMessage({ type: "layers", step, layers });
    if (this.phase === "preparing") this.say("running", "Training.");
  }

  private async evaluate(): Promise<void> {
    const { step } = this.training!;
    const { loss, accuracy } = await this.training!.evaluate();
    port.postMessage({ type: "evaluated", step, loss, accuracy: accuracy ?? 0 });
  }

  private async report(): Promise<void> {
    if (!this.training || this.losses.length === 0) return;
    this.reported = performance.now();
    const step = this.training.step - this.flying.length;
    const progress = { step, epoch: this.training.epoch, losses: this.losses, stepsPerSecond: this.speed.rate };
    port.postMessage({ type: "progress", progress });
    this.losses = [];
    await this.classify();
  }

  private async classify(): Promise<void> {
    if (!this.pixels || !this.training) return;
    const { step } = this.training;
    port.postMessage({ type: "classified", probabilities: await this.training.classify(this.pixels), step });
  }

  private say(phase: Phase, text: string): void {
    this.phase = phase;
    port.postMessage({ type: "phase", phase, text });
  }

  /** What goes wrong ends the training, not the worker; the next start begins anew. */
  private async guarded(body: () => Promise<void>): Promise<void> {
    try {
      await body();
    } catch (error) {
      this.running = false;
      this.training = null;
      this.flying.length = 0;
      this.losses = [];
      const text = error instanceof Error ? error.message : String(error);
      const cause = error instanceof DeviceError ? "The GPU gave up. " : "";
      port.postMessage({ type: "failed", text: `${cause}${text}` });
      this.say("failed", "Stopped. Reset or Start begins anew.");
    }
  }
}

/** Whether this step is watched and evaluated: often while much changes. */
const isLook = (step: number): boolean => step % (step <= 300 ? 10 : 50) === 0;

function cpuText(): string {
  const threads = getThreads();
  if (threads > 1) return `CPU, ${threads} threads.`;
  return crossOriginIsolated
    ? "CPU, one thread: this machine offers no more."
    : "CPU, one thread: the page is not cross-origin isolated (its server sends no COOP and COEP headers).";
}

function brokenText(step: number, loss: number, { learningRate }: Settings): string {
  const what = Number.isNaN(loss) ? "not a number" : "infinite";
  return `The loss became ${what} at step ${step}. A learning rate of ${learningRate.toLocaleString("en")} is too large here: choose a smaller one and start again.`;
}

void new Session().live();
