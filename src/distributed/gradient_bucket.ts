import { Tensor } from "../autograd/index.js";
import type { Communicator, Numbers } from "../base/communicator.js";
import { bytesPerElement, type DType } from "../base/dtype.js";
import type { Pending } from "../base/pending.js";
import { kernels } from "../kernels/dispatch.js";
import { onDevice } from "../memory/device.js";
import { heap, partOf } from "../memory/heap.js";
import { Storage } from "../memory/storage.js";

interface Message {
  readonly pending: Pending<void>;
  /** What is sent and received, held for as long as that goes on. */
  readonly memory: Storage;
}

/** Messages that nobody waits for any more, whose memory others may still write to. */
const adrift = new Set<Message>();

/**
 * Parameters of one type whose gradients are summed over ranks in one message. They are copied together on the heap, where MPI reads and writes
 * them; the gradient of a single parameter is sent from where it lies.
 */
export class GradientBucket {
  readonly length: number;
  readonly bytes: number;
  private readonly dtype: DType;
  private memory: Storage | null = null;
  private message: Message | null = null;

  constructor(readonly parameters: readonly Tensor[]) {
    this.dtype = parameters[0]!.dtype;
    this.length = parameters.reduce((sum, p) => sum + p.size, 0);
    this.bytes = this.length * bytesPerElement[this.dtype];
  }

  /** Whether all gradients are those of all ranks. */
  get complete(): boolean {
    return this.message === null;
  }

  /** Sends the gradients as they are; a parameter without one gets zeros. */
  begin(communicator: Communicator): void {
    const memory = this.collect();
    const pending = communicator.allReduceAsync(heap.view(memory) as Numbers, "sum");
    this.message = { pending, memory: memory.retain() };
  }

  /** Moves the message on; whether it has come. */
  test(): boolean {
    return this.message === null || this.message.pending.test();
  }

  /** Waits for the message and leaves in each gradient the sum times `factor`. */
  finish(factor: number): void {
    const { message } = this;
    if (message === null) return;
    message.pending.wait();
    this.message = null;
    const { memory } = message;
    if (factor !== 1) onDevice("cpu", () => kernels.scaleOf([memory], factor));
    if (this.parameters.length > 1) this.eachPlace((grad, place) => heap.copy(place, grad), memory);
    for (const p of this.parameters) p.grad!.storage.version++;
    memory.release();
  }

  /** Gives up a message that is under way: its memory stays as long as others may write to it. */
  abandon(): void {
    const { message } = this;
    if (message === null) return;
    this.message = null;
    adrift.add(message);
    // The next message has memory of its own.
    this.dispose();
  }

  dispose(): void {
    this.memory?.release();
    this.memory = null;
  }

  private collect(): Storage {
    for (const p of this.parameters) giveGradient(p);
    if (this.parameters.length === 1) return this.parameters[0]!.grad!.storage;
    if (this.memory === null) {
      this.memory = new Storage(this.length, this.dtype, "cpu");
      this.memory.watch();
    }
    this.eachPlace((grad, place) => heap.copy(grad, place), this.memory);
    return this.memory;
  }

  private eachPlace(copy: (grad: Storage, place: ReturnType<typeof partOf>) => void, memory: Storage): void {
    let at = 0;
    for (const { grad, size } of this.parameters) {
      copy(grad!.storage, partOf(memory, at, size));
      at += size;
    }
  }
}

function giveGradient(p: Tensor): void {
  if (p.grad && !p.grad.disposed) return;
  const none = onDevice("cpu", () => Tensor.empty(p.shape, p.dtype));
  onDevice("cpu", () => kernels.fill(none.storage, 0));
  p.grad = none;
}

/** Waits for messages that were given up: where all ranks failed alike, all of them have sent theirs. */
export function awaitAbandoned(): void {
  for (const message of adrift) {
    message.pending.wait();
    adrift.delete(message);
    message.memory.release();
  }
}

/** Lets go of messages given up that have come since; never waits, never throws. */
export function releaseAbandoned(): void {
  for (const message of adrift) {
    try {
      if (!message.pending.test()) continue;
    } catch {
      // The group is broken, and its messages may still lie with the network.
      continue;
    }
    adrift.delete(message);
    message.memory.release();
  }
}

/** Bytes that a network carries while it keeps a message waiting, about: 30 us at 10 Gbit/s, 3 us at 100. */
const WAITING_BYTES = 1 << 15;

/**
 * How large buckets should be: the last is sent when backward is over, and so nothing hides it, while each waits for all other ranks. Two ranks over
 * 0.2 Gbit/s hide 17 % of what a message of 200 KB adds to a step in one piece, 58 % in pieces of 128 KiB, 76 % of 64 KiB and 74 % of 32 KiB.
 */
export function suitableBytes(parameters: readonly Tensor[], ranks: number): number {
  const all = parameters.reduce((sum, p) => sum + bytesOf(p), 0);
  return Math.max(Math.min(all / 8, 1 << 20), WAITING_BYTES * ranks);
}

const bytesOf = (p: Tensor): number => p.size * bytesPerElement[p.dtype];

/**
 * Parameters in buckets of one type and about `bytes`, last ones first, as backward comes to them. One of that size by itself is a
 * bucket of its own. Buckets are in the order in which their last gradients come.
 */
export function intoBuckets(parameters: readonly Tensor[], bytes: number): GradientBucket[] {
  const closed: { members: Tensor[]; last: number }[] = [];
  const open = new Map<DType, { members: Tensor[]; last: number; bytes: number }>();
  for (const [last, p] of [...parameters].reverse().entries()) {
    const size = bytesOf(p);
    if (size >= bytes) {
      closed.push({ members: [p], last });
      continue;
    }
    const bucket = open.get(p.dtype) ?? { members: [], last, bytes: 0 };
    bucket.members.push(p);
    bucket.last = last;
    bucket.bytes += size;
    if (bucket.bytes >= bytes) {
      closed.push(bucket);
      open.delete(p.dtype);
    } else open.set(p.dtype, bucket);
  }
  return [...closed, ...open.values()]
    .sort((a, b) => a.last - b.last)
    .map(({ members }) => new GradientBucket(members));
}
