import type { Tensor } from "../autograd/index.js";
import type { Communicator } from "../base/communicator.js";
import { DTypeError, describeValue, OptionError } from "../base/errors.js";
import { checkBoolean, readOptions } from "../base/options.js";
import { Module } from "../nn/module.js";
import { reducedGradients } from "../nn/norm/synchronized.js";
import { broadcastState, broadcastTensors } from "./copies.js";
import {
  GradientReducer,
  type GradientReducerOptions,
  type ReducerStatistics,
  reducerDefaults,
} from "./gradient_reducer.js";
import { checkSameParameters } from "./unlike.js";

export interface DistributedDataParallelOptions extends Omit<GradientReducerOptions, "reduced"> {
  /** The ranks that train together: `initDistributed()`, as a rule. */
  readonly communicator: Communicator;
  /** Whether each training forward begins with rank 0's buffers on all ranks. Default true. */
  readonly broadcastBuffers?: boolean;
}

/**
 * A model of which each rank has a copy, to be trained on its part of every batch: rank 0's parameters and buffers are given to all
 * when it is made, and gradients are those of all ranks when backward returns (GradientReducer). As
 * torch.nn.parallel.DistributedDataParallel: gradients are means over ranks by default, names in its state begin with "module.";
 * save `ddp.module.stateDict()` for a state that a single rank loads.
 *
 * Buffers that ranks move apart (running statistics of BatchNorm) are rank 0's again before each training forward outside
 * noSync, in one message; none is sent where all belong to layers that keep them alike over these ranks.
 *
 * Throws: as GradientReducer; CommunicationError on all ranks where their copies have other names, types or shapes, and in the second
 *         training forward where the first step has left them with different parameters.
 */
export class DistributedDataParallel<M extends Module = Module> extends Module {
  readonly communicator: Communicator;
  readonly #reducer: GradientReducer;
  readonly #broadcastBuffers: boolean;
  #silent = false;
  /** Training forwards that began with rank 0's buffers. */
  #forwards = 0;

  constructor(
    readonly module: M,
    options: DistributedDataParallelOptions,
  ) {
    super();
    if (!(module instanceof Module)) {
      throw new DTypeError({ rule: "DistributedDataParallel wraps a Module", got: describeValue(module) });
    }
    const o = readOptions("DistributedDataParallel", options, {
      communicator: undefined as Communicator | undefined,
      broadcastBuffers: true,
      ...reducerDefaults,
    });
    this.communicator = checkCommunicator(o.communicator);
    this.#broadcastBuffers = checkBoolean("DistributedDataParallel: broadcastBuffers", o.broadcastBuffers);
    const { bucketBytes, gradients } = o;
    const reduced = reducedGradients(module);
    broadcastState(this.communicator, module);
    this.#reducer = new GradientReducer(this.communicator, module.parameters(), { bucketBytes, gradients, reduced });
    this.training = module.training;
  }

  // biome-ignore lint/suspicious/noExplicitAny: whatever the model takes
  forward(...inputs: any[]): Tensor {
    if (this.training && this.#broadcastBuffers && !this.#silent) this.#alignBuffers();
    return this.module.forward(...inputs);
  }

  /** What happens in `body` stays on this rank; see GradientReducer.noSync. */
  noSync<T>(body: () => T): T {
    const before = this.#silent;
    this.#silent = true;
    try {
      return this.#reducer.noSync(body);
    } finally {
      this.#silent = before;
    }
  }

  get statistics(): ReducerStatistics {
    return this.#reducer.statistics;
  }

  /** Ends the exchange of gradients; the model stays as it is. May be called twice. */
  close(): void {
    this.#reducer.close();
  }

  override dispose(): void {
    this.close();
    super.dispose();
  }

  #alignBuffers(): void {
    const { communicator } = this;
    if (communicator.size === 1) return;
    const alike = new Set(
      this.module.modules().flatMap((m) => ("communicator" in m && m.communicator === communicator ? m.buffers() : [])),
    );
    const buffers = [...new Set(this.module.buffers())].filter((b) => !alike.has(b));
    if (buffers.length === 0) return;
    broadcastTensors(communicator, buffers, 0);
    // Layers that keep their buffers alike keep their parameters so too.
    if (this.#forwards++ === 1) checkSameParameters(communicator, this.module);
  }
}

function checkCommunicator(communicator: Communicator | undefined): Communicator {
  if (typeof communicator?.allReduceAsync === "function" && communicator.size >= 1) return communicator;
  throw new OptionError({
    rule: "DistributedDataParallel: communicator must be a Communicator",
    got: String(communicator),
    fix: "Take one from initDistributed() or joinGroup()",
  });
}
