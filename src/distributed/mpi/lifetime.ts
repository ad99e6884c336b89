import { inspect } from "node:util";
import { StateError } from "../../base/errors.js";
import { awaitThreads } from "../../kernels/threads/pool.js";
import { withAlarm } from "./alarm.js";
import type { Farewell } from "./farewell.js";
import { type Launched, watchLauncher } from "./launcher.js";
import type { Mpi } from "./library.js";
import { type Line, nap } from "./line.js";

/** Only the main thread calls the library (MPI_THREAD_FUNNELED). */
const FUNNELED = 1;
/** Seconds that the others have at least to start: a launcher may take its time over many machines. */
const STARTING = 60;
/** Milliseconds between two looks at the launcher. */
const LOOK_MS = 1000;
/** Milliseconds of waiting for the others at the end before it leaves the core to them. */
const BUSY_END_MS = 20;
const END_NAP_MS = 5;
/** Milliseconds for a launcher to pass on why a rank ends all. */
const LAST_WORDS_MS = 100;

/** A group as far as its end goes. */
export interface Ending {
  readonly line: Line;
  readonly farewell: Farewell;
}

/** This process as a rank: the one library of it, since MPI can be started once. */
export class Lifetime {
  private readonly groups: Ending[] = [];
  private ended = false;
  private uncaught: { error: unknown } | null = null;
  private looked = performance.now();
  private readonly launcherIsThere: () => boolean;
  private name = "a rank";
  private severalNodes = false;

  /** Starts MPI where nobody did, and sees to it that it is ended when the process is. */
  constructor(
    private readonly mpi: Mpi,
    launched: Launched,
    /** Seconds that a call may take. */
    timeout: number,
  ) {
    const { call } = mpi;
    this.launcherIsThere = watchLauncher(launched.variable);
    if (!mpi.number("MPI_Initialized", call.MPI_Initialized)) {
      const seconds = Math.max(timeout, STARTING);
      const late = `evenkeel: a rank ends, since in ${seconds} seconds not all others came to initDistributed(): look for one that ended before it`;
      const start = (provided: number) => call.MPI_Init_thread(0, 0, FUNNELED, provided);
      // MPI writes to the environment as it starts and ends.
      awaitThreads();
      withAlarm(seconds, late, () => mpi.number("MPI_Init_thread", start));
    }
    process.on("uncaughtExceptionMonitor", (error) => {
      this.uncaught = { error };
    });
    process.on("exit", (code) => this.end(code));
    setInterval(() => this.checkLauncher(), LOOK_MS).unref();
  }

  /** Takes a new group into account. The first is that of all ranks. */
  add(group: Ending, rank: number, size: number): void {
    if (this.groups.length === 0) this.name = `rank ${rank} of ${size}`;
    this.groups.push(group);
  }

  /** The ranks are on more than one machine. */
  overSeveralNodes(): void {
    this.severalNodes = true;
  }

  /** Throws StateError where the ranks have parted already. */
  check(): void {
    if (!this.ended) return;
    throw new StateError({
      rule: "Ranks act together until finalizeDistributed()",
      got: "a call after it",
      fix: "Call it last",
    });
  }

  /** Ends this process where the launcher has gone: nobody else would, and what it waits for may never come. */
  checkLauncher(): void {
    const now = performance.now();
    if (now - this.looked < LOOK_MS) return;
    this.looked = now;
    if (this.ended || this.launcherIsThere()) return;
    process.stderr.write(`evenkeel: ${this.name} ends, since what started it is gone\n`);
    // Not by exit(): the library's own end waits for the launcher.
    process.kill(process.pid, "SIGKILL");
    nap(LOOK_MS);
  }

  /** Ends all ranks, now. */
  abort(reason: string, code = 1): void {
    this.ended = true;
    process.stderr.write(`evenkeel: ${this.name} ends all ranks: ${reason}\n`);
    // Hydra ends when it hears of the abort, whatever it still has to pass on of what ranks said.
    nap(LAST_WORDS_MS);
    this.mpi.call.MPI_Abort(this.mpi.world, code);
  }

  /**
   * Leaves the ranks: with code 0 once all of them do, otherwise at once and all with that code, since the others would wait for
   * what this one no longer sends.
   */
  end(code: number): void {
    if (this.ended) return;
    // Node tells of an uncaught error after the exit event, which an abort does not return from.
    const reason = code === 0 ? this.part() : this.uncaught ? inspect(this.uncaught.error) : `exit with code ${code}`;
    if (reason !== null) {
      this.abort(reason, code || 1);
      return;
    }
    this.ended = true;
    if (!this.mpi.abi.finalizesOverNetworks && this.severalNodes) return;
    awaitThreads();
    this.mpi.call.MPI_Finalize();
  }

  /** Says farewell in every group, and waits until all others have. Returns why that cannot be. */
  private part(): string | null {
    try {
      for (const { line, farewell } of this.groups) farewell.send(line.begun);
      const since = performance.now();
      for (let left = this.groups; left.length > 0; ) {
        left = left.filter((group) => !this.hasParted(group));
        this.checkLauncher();
        if (performance.now() - since > BUSY_END_MS) nap(END_NAP_MS);
        else this.mpi.yieldCore();
      }
      return null;
    } catch (error) {
      return `its calls are not complete: ${(error as Error).message}`;
    }
  }

  /** Calls under way go on at the end: others may need what this rank sends in them. */
  private hasParted({ line, farewell }: Ending): boolean {
    farewell.look();
    if (line.idle) return farewell.complete;
    line.advance();
    if (!line.idle) farewell.check(line.oldest);
    return false;
  }
}
