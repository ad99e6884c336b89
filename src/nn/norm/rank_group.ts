import type { Tensor } from "../../autograd/index.js";
import type { Gathering } from "../../autograd/ops/column_parts.js";
import { type GroupMoments, gatherMoments, shareMoments } from "../../autograd/ops/group_moments.js";
import { type Communicator, loopback } from "../../base/communicator.js";
import { DeviceError, OptionError, ShapeError, StateError } from "../../base/errors.js";
import { currentTape } from "../../kernels/tape.js";
import type { ColumnView } from "../../norm/views.js";

export interface CommunicatorOption {
  /** The group of ranks to share statistics with; the default is this one rank alone. */
  readonly communicator?: Communicator;
}

export const communicatorDefault = { communicator: loopback as Communicator };

/** The ranks that one layer takes its statistics with. */
export class RankGroup {
  readonly communicator: Communicator;
  /** Whether the ranks have found their layers to be alike. */
  #met = false;

  /** `said` names what must be alike, for the others to compare and for an error's text. */
  constructor(
    private readonly layer: string,
    communicator: Communicator | undefined,
    private readonly said: string,
  ) {
    this.communicator = checkCommunicator(layer, communicator ?? loopback);
  }

  /** Whether there is anyone to share with. */
  get several(): boolean {
    return this.communicator.size > 1;
  }

  /**
   * The moments of the x of all ranks, with one message, and before a layer's first one another. `samples` is what this rank adds
   * to their number.
   */
  gatherMoments(x: Tensor, view: ColumnView, samples: number): GroupMoments {
    const { layer, communicator } = this;
    this.prepare(x);
    return gatherMoments(x, { view, samples, communicator, layer });
  }

  /** The same, differentiable, from moments [C] that this rank has taken of x, of `count` values of each channel. */
  shareMoments(x: Tensor, own: { mean: Tensor; variance: Tensor }, count: number, samples: number): GroupMoments {
    const { layer, communicator } = this;
    this.prepare(x);
    return shareMoments(own, { count, samples, communicator, layer });
  }

  /** For ops whose backward adds up over ranks; gradients of weight and bias stay those of the rank's own elements. */
  get gathering(): Gathering {
    return { add: (numbers) => this.communicator.allReduce(numbers, "sum"), affine: null };
  }

  /** To be called before a forward's first message. */
  prepare(x: Tensor): void {
    this.checkReach(x);
    this.#meet();
  }

  /** Messages are made of numbers that JavaScript reads now. */
  checkReach(x: Tensor): void {
    const { layer, communicator } = this;
    if (x.device !== "cpu") {
      throw new DeviceError({
        rule: `${layer} over several ranks trains on the CPU, where their messages lie`,
        got: `an input on ${x.device}`,
        fix: "Bring the model back with await model.toCPU(), or train with one rank",
      });
    }
    if (currentTape()) {
      throw new StateError({
        rule: `${layer} over several ranks sends messages, which a captured function cannot repeat`,
        got: `a training forward with ${communicator.size} ranks inside capture`,
        fix: "Leave capture out",
      });
    }
  }

  /** Once a layer: later messages have the length that all expect. */
  #meet(): void {
    if (this.#met) return;
    const said = new TextEncoder().encode(this.said);
    const texts = this.communicator.allGather(said).map((t) => new TextDecoder().decode(t));
    if (texts.some((t) => t !== texts[0])) {
      throw new ShapeError({
        rule: "Ranks normalize together with layers that are alike",
        got: texts.map((t, rank) => `${t} on rank ${rank}`).join("; "),
      });
    }
    this.#met = true;
  }
}

export function checkCommunicator(owner: string, communicator: Communicator): Communicator {
  if (typeof communicator?.allGather === "function" && communicator.size >= 1) return communicator;
  throw new OptionError({
    rule: `${owner}: communicator must be a Communicator`,
    got: String(communicator),
    fix: 'Take one from initDistributed() or joinGroup() of "evenkeel/distributed"',
  });
}
