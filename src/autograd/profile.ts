import { heap } from "../memory/heap.js";
import { type Phase, type Probe, setProbe } from "./probe.js";

export interface ProfileEntry {
  /** The op's name, as errors show it too. */
  readonly op: string;
  /** Backward also holds whatever ops an op's gradient is made of; update is an optimizer's step. */
  readonly phase: Phase;
  readonly calls: number;
  /** Milliseconds of all calls together, what they call included. */
  readonly milliseconds: number;
  /**
   * Bytes of the tensors that went in or came out, each counted once a call: the least that had to be read and written.
   * Divided by the time this is a floor of the memory traffic.
   */
  readonly bytes: number;
  /** Ops inside this one, sorted as the entries are. */
  readonly inside: readonly ProfileEntry[];
}

export interface Profile {
  /** Milliseconds of the whole. What the entries do not add up to passed outside of ops. */
  readonly milliseconds: number;
  /** Most bytes of tensors alive at one time, those from before included. */
  readonly peakBytes: number;
  /** One entry for each op and phase, the slowest first. */
  readonly entries: readonly ProfileEntry[];
}

class Branch {
  calls = 0;
  milliseconds = 0;
  bytes = 0;
  began = 0;
  readonly inside = new Map<string, Branch>();

  constructor(
    readonly op: string,
    readonly phase: Phase,
    readonly parent: Branch | null,
  ) {}

  get entries(): ProfileEntry[] {
    const list = [...this.inside.values()].sort((a, b) => b.milliseconds - a.milliseconds);
    return list.map((b) => {
      const { op, phase, calls, milliseconds, bytes } = b;
      return { op, phase, calls, milliseconds, bytes, inside: b.entries };
    });
  }
}

class Recording implements Probe {
  readonly whole = new Branch("", "forward", null);
  #at = this.whole;

  enter(op: string, phase: Phase): void {
    const key = `${phase} ${op}`;
    let branch = this.#at.inside.get(key);
    if (!branch) {
      branch = new Branch(op, phase, this.#at);
      this.#at.inside.set(key, branch);
    }
    this.#at = branch;
    branch.began = performance.now();
  }

  leave(bytes: number): void {
    const branch = this.#at;
    branch.milliseconds += performance.now() - branch.began;
    branch.calls++;
    branch.bytes += bytes;
    this.#at = branch.parent!;
  }
}

/**
 * Runs `step` and says where its time went: an entry for each op, forward and backward apart, and for each optimizer. Run
 * a few steps before, since the first ones pay for compilation. Profiles nest: the inner one then has its ops to itself.
 */
export function profile(step: () => unknown): Profile {
  const recording = new Recording();
  const before = setProbe(recording);
  heap.resetPeak();
  const began = performance.now();
  try {
    step();
  } finally {
    setProbe(before);
  }
  const milliseconds = performance.now() - began;
  return { milliseconds, peakBytes: heap.stats.peakBytes, entries: recording.whole.entries };
}
