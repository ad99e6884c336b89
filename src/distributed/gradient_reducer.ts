import { type PassBeginning, type Tensor, type Vertex, watchGradients } from "../autograd/index.js";
import type { Communicator } from "../base/communicator.js";
import { DeviceError, OptionError, StateError } from "../base/errors.js";
import { checkChoice, checkPositiveInteger, readOptions } from "../base/options.js";
import { kernels } from "../kernels/dispatch.js";
import { currentTape } from "../kernels/tape.js";
import { meanwhile } from "../kernels/threads/meanwhile.js";
import { onDevice } from "../memory/device.js";
import type { ReducedGradients } from "../nn/norm/synchronized.js";
import { checkAlike } from "./copies.js";
import {
  awaitAbandoned,
  type GradientBucket,
  intoBuckets,
  releaseAbandoned,
  suitableBytes,
} from "./gradient_bucket.js";

export interface GradientReducerOptions {
  /** Bytes of gradients in a message. Default an eighth of all, at most 1 MiB, but 32 KiB for each rank. */
  readonly bucketBytes?: number | undefined;
  /**
   * What backward leaves: the sum over ranks, for losses that are divided by the number of samples on all ranks ("sum"); or that over
   * the number of ranks, for losses that are means over as many samples on each ("mean", default).
   */
  readonly gradients?: "sum" | "mean";
  /** Parameters that layers reduce themselves: what `nn.reducedGradients(model)` tells. Default: none. */
  readonly reduced?: readonly ReducedGradients[];
}

export const reducerDefaults = { bucketBytes: undefined as number | undefined, gradients: "mean" as "sum" | "mean" };

/** What a reducer has done since it was made; times are of this rank. */
export interface ReducerStatistics {
  /** Backward passes that sent gradients. */
  readonly passes: number;
  readonly messages: number;
  readonly bytes: number;
  /** Messages that had come when backward was over and nothing else was left to do. */
  readonly hidden: number;
  /** Seconds inside backward that went into collecting, sending and moving on messages. */
  readonly sending: number;
  /** Seconds after it: waiting for messages, and writing them back. */
  readonly waiting: number;
}

/** Milliseconds between two questions whether messages have come: a question costs a microsecond or two, as much as a small op. */
const PATIENCE = 0.05;

/**
 * Sums the gradients of all ranks while backward goes on: those that are final are sent, bucket by bucket in one order on all ranks,
 * and when backward returns every `.grad` is the one of all ranks, of the same bits on each. Clipping and optimizers then do the same everywhere.
 *
 * All ranks make one, of parameters of the same shapes in the same order, and go back through the same graphs; a rank without
 * samples does so with an empty batch. Every backward that leads to one of the parameters counts, and sends them all: a parameter
 * that it gives nothing takes part with what it has, or zeros. Parameters without requiresGrad are left out for as long as they have none.
 * Gradients that are not cleared in between add up as on one rank. A pass that throws leaves gradients that are of no use.
 *
 * Throws: CommunicationError where the ranks' parameters differ; DeviceError for parameters on another device than the CPU;
 *         OptionError for layers in `reduced` that leave sums where means are wanted; from backward, StateError with createGraph or
 *         inside capture, and what messages throw.
 */
export class GradientReducer {
  private readonly parameters: readonly Tensor[];
  /** Null for what suits the parameters. */
  private readonly bucketBytes: number | null;
  private readonly gradients: "sum" | "mean";
  private readonly stopWatching: () => void;
  private buckets: GradientBucket[] = [];
  private readonly bucketOf = new Map<Vertex, number>();
  /** Which parameters take part, and their types, as the buckets were laid out for. */
  private layout: string[] = [];
  /** With "sum", parameters' gradients that are of all ranks already: added up again, each rank must hold its share of them. A mean of means is one. */
  private readonly whole = new Map<Tensor, Tensor>();
  /** Gradients that each bucket waits for in this pass; null where none goes on that sends. */
  private missing: number[] | null = null;
  /** Buckets of this pass that have been sent, and of these those known to have come. */
  private sent = 0;
  private come = 0;
  private asked = 0;
  private silent = false;
  private closed = false;
  /** Ends the questions between pieces of long kernels. */
  private stopAsking: () => void = () => {};
  private readonly counts = { passes: 0, messages: 0, bytes: 0, hidden: 0, sending: 0, waiting: 0 };

  constructor(
    private readonly communicator: Communicator,
    parameters: Iterable<Tensor>,
    options?: GradientReducerOptions,
  ) {
    const o = readOptions("GradientReducer", options, {
      ...reducerDefaults,
      reduced: [] as readonly ReducedGradients[],
    });
    const { bucketBytes = null } = o;
    this.bucketBytes = bucketBytes === null ? null : checkPositiveInteger("GradientReducer: bucketBytes", bucketBytes);
    this.gradients = checkChoice("GradientReducer: gradients", o.gradients, ["sum", "mean"]);
    const others = new Set(o.reduced.flatMap((r) => (this.isPassedBy(r) ? r.parameters : [])) as Tensor[]);
    this.parameters = [...new Set(parameters)].filter((p) => !others.has(p));
    this.stopWatching = communicator.size > 1 ? this.watch() : () => {};
    if (communicator.size > 1) this.layOut();
  }

  get statistics(): ReducerStatistics {
    return { ...this.counts };
  }

  /**
   * Backward passes in `body` send nothing and add up on each rank; the next one outside sends the sums, once. All ranks do the same.
   * Throws StateError for an async body: what comes after its first await would send.
   */
  noSync<T>(body: () => T): T {
    const before = this.silent;
    this.silent = true;
    try {
      const result = body();
      if (typeof (result as { then?: unknown } | null | undefined)?.then !== "function") return result;
      throw new StateError({
        rule: "noSync() takes a synchronous function",
        got: "a promise",
        fix: "Call noSync around each forward and backward, and await between them",
      });
    } finally {
      this.silent = before;
    }
  }

  /** From now on backward sends nothing. May be called twice, also after an error; waits for nobody. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.stopWatching();
    for (const bucket of this.buckets) {
      bucket.abandon();
      bucket.dispose();
    }
    this.whole.clear();
    releaseAbandoned();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private isPassedBy({ communicator, how }: ReducedGradients): boolean {
    if (communicator === this.communicator && how === this.gradients) return true;
    // A mean over the ranks of a group, summed or averaged over all, is what the ranks' own gradients come to.
    if (how === "mean" || communicator.size === 1) return false;
    throw new OptionError({
      rule: `Layers whose gradients are sums over ranks go with gradients "sum" over the same ranks`,
      got: `gradients "${this.gradients}" of ${this.communicator.size} ranks, and a layer over ${communicator.size}`,
      fix: 'Make the layers with affineGradients "mean" or "own"',
    });
  }

  private watch(): () => void {
    return watchGradients(
      this.parameters.map((p) => p.vertex),
      {
        early: true,
        begin: (pass) => this.begin(pass),
        ready: (leaf) => this.ready(leaf),
        between: () => this.between(),
        end: (failed) => this.end(failed),
      },
    );
  }

  private layOut(): void {
    const { communicator, parameters } = this;
    for (const bucket of this.buckets) bucket.dispose();
    this.layout = layoutOf(parameters);
    checkAlike(
      communicator,
      parameters.map((p, i) => [`parameter ${i}${p.requiresGrad ? "" : " (frozen)"}`, p]),
    );
    const taking = parameters.filter((p) => p.requiresGrad);
    const elsewhere = taking.find((p) => p.device !== "cpu");
    if (elsewhere) {
      throw new DeviceError({
        rule: "Gradients are summed over ranks on the CPU, where messages are sent from",
        got: `a parameter on ${elsewhere.device}`,
        fix: "Bring the model back with await model.toCPU()",
      });
    }
    this.buckets = intoBuckets(taking, this.bucketBytes ?? suitableBytes(taking, communicator.size));
    this.bucketOf.clear();
    for (const [i, { parameters }] of this.buckets.entries())
      for (const p of parameters) this.bucketOf.set(p.vertex, i);
  }

  private begin({ leaves, recorded }: PassBeginning): void {
    this.share();
    if (this.silent) return;
    if (recorded || currentTape()) {
      throw new StateError({
        rule: "Gradients are sent when they are there, which is not recorded: a backward that is cannot send any",
        got: recorded ? "backward with createGraph" : "backward in a captured function",
        fix: recorded ? "Use grad(), or put this backward into noSync" : "Leave capture out",
      });
    }
    awaitAbandoned();
    if (layoutOf(this.parameters).some((kind, i) => kind !== this.layout[i])) this.layOut();
    this.sent = this.come = 0;
    // Not those that this graph does not lead to: nobody will say that they are ready.
    this.missing = this.buckets.map(({ parameters }) => parameters.filter((p) => leaves.has(p.vertex)).length);
    this.counts.passes++;
    this.stopAsking = meanwhile(() => this.between());
    this.send();
  }

  /** Turns what is left of summed gradients that are about to be sent again into this rank's share of them. */
  private share(): void {
    for (const [p, grad] of this.whole) {
      const same = p.grad === grad && !grad.disposed;
      if (same && !p.requiresGrad) continue;
      this.whole.delete(p);
      if (!same) continue;
      onDevice("cpu", () => kernels.scaleOf([grad.storage], 1 / this.communicator.size));
      grad.storage.version++;
    }
  }

  private ready(leaf: Vertex): void {
    if (this.missing === null) return;
    const i = this.bucketOf.get(leaf);
    if (i === undefined) return;
    this.missing[i]!--;
    if (i === this.sent) this.send();
  }

  /** Sends the buckets whose turn it is, or all. */
  private send(all = false): void {
    const since = performance.now();
    const { buckets, missing, counts, communicator } = this;
    while (this.sent < buckets.length && (all || missing![this.sent] === 0)) {
      const bucket = buckets[this.sent]!;
      bucket.begin(communicator);
      this.sent++;
      counts.messages++;
      counts.bytes += bucket.bytes;
    }
    counts.sending += (performance.now() - since) / 1000;
  }

  private between(): void {
    if (this.come === this.sent || this.missing === null) return;
    const now = performance.now();
    if (now - this.asked < PATIENCE) return;
    this.ask();
    this.asked = performance.now();
    this.counts.sending += (this.asked - now) / 1000;
  }

  private ask(): void {
    while (this.come < this.sent && this.buckets[this.come]!.test()) this.come++;
  }

  private end(failed: boolean): void {
    if (this.missing === null) return;
    this.stopAsking();
    try {
      if (!failed) this.complete();
    } finally {
      this.missing = null;
      for (const bucket of this.buckets) bucket.abandon();
    }
  }

  private complete(): void {
    const { counts, buckets } = this;
    this.send(true);
    const since = performance.now();
    this.ask();
    counts.hidden += this.come;
    const factor = this.gradients === "mean" ? 1 / this.communicator.size : 1;
    for (const bucket of buckets) {
      bucket.finish(factor);
      if (this.gradients === "sum") for (const p of bucket.parameters) this.whole.set(p, p.grad!);
    }
    counts.waiting += (performance.now() - since) / 1000;
  }
}

const layoutOf = (parameters: readonly Tensor[]): string[] =>
  parameters.map((p) => (p.requiresGrad ? `${p.dtype} on ${p.device}` : ""));
