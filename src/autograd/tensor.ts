import { type DType, isFloating, type NumberArray, numbersOf } from "../base/dtype.js";
import { DTypeError, forPurpose, ShapeError, StateError } from "../base/errors.js";
import { formatShape, numberOfElements, type Shape } from "../base/shape.js";
import { currentTape } from "../kernels/tape.js";
import { type DeviceName, type DevicePlace, memoryOf } from "../memory/device.js";
import { heap } from "../memory/heap.js";
import { disown, own, type ScopeMember, track } from "../memory/scope.js";
import { checkHostAccess, Storage } from "../memory/storage.js";
import "../memory/dispose_symbol.js";
import { watchGradients } from "./gradient_watch.js";
import { Need, type Node, Vertex } from "./graph.js";

/** Nested arrays of numbers, as deep as the tensor's rank. */
export type NestedArray = number | NestedArray[];

/**
 * An array of numbers on the heap with a place in the autograd graph. Always contiguous and row-major; reshapes share
 * storage, other movements copy. The arithmetic is attached in methods.ts, one op a file under ops/.
 *
 * Lifetime: `dispose()`, `using`, or the end of a `scope`; garbage collection is the safety net.
 */
export class Tensor implements ScopeMember {
  owned = false;
  mark = 0;
  private held: Storage | null;
  private type: DType;
  private place: DeviceName;

  constructor(
    storage: Storage,
    readonly shape: Shape,
    /** Its place in the graph; an op gives its result one there once it is recorded. */
    public vertex: Vertex = new Vertex(Need.none),
    /** False for a handle that its maker disposes: no scope knows of it. */
    tracked = true,
  ) {
    this.held = storage;
    this.type = storage.dtype;
    this.place = storage.device;
    if (tracked) track(this);
    else this.owned = true;
  }

  /** A new tensor with undefined contents, on the device that is at work. */
  static empty(shape: Shape, dtype: DType = "float32"): Tensor {
    return new Tensor(storageFor(shape, dtype), shape);
  }

  /** A new tensor of this one's shape, type and device, with undefined contents. */
  emptyLike(): Tensor {
    return new Tensor(storageFor(this.shape, this.dtype, this.device), this.shape);
  }

  /** The place in memory. Throws StateError after dispose. */
  get storage(): Storage {
    if (this.held) return this.held;
    throw new StateError({
      rule: "A tensor can be used until it is disposed",
      got: `a disposed tensor of shape ${formatShape(this.shape)}`,
      fix: "If a scope ended before this use, return the tensor from it",
    });
  }

  get dtype(): DType {
    return this.type;
  }

  /** Where the numbers lie: "cpu" or "webgpu". */
  get device(): DeviceName {
    return this.place;
  }

  get rank(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    return numberOfElements(this.shape);
  }

  get disposed(): boolean {
    return this.held === null;
  }

  get requiresGrad(): boolean {
    return this.vertex.need === Need.wanted;
  }

  set requiresGrad(on: boolean) {
    if (this.vertex.node) {
      throw new StateError({
        rule: "requiresGrad can be set on tensors that no op made",
        got: `the result of ${this.vertex.node.name}`,
        fix: "Use detach() for a copy without history",
      });
    }
    if (on && !isFloating(this.dtype)) {
      throw new DTypeError({ rule: "Only tensors of floating-point types have gradients", got: this.dtype });
    }
    this.vertex.need = on ? Need.wanted : Need.none;
  }

  /** The gradient that backward passes added up, or null. Assigning null clears it. */
  get grad(): Tensor | null {
    return this.vertex.grad;
  }

  set grad(value: Tensor | null) {
    if (value && (value.dtype !== this.dtype || formatShape(value.shape) !== formatShape(this.shape))) {
      throw new ShapeError({
        rule: `grad must have the tensor's shape and type, ${formatShape(this.shape)} ${this.dtype}`,
        got: `${formatShape(value.shape)} ${value.dtype}`,
      });
    }
    if (value === null) currentTape()?.cleared.add(this.vertex);
    const before = this.vertex.grad;
    if (before === value) return;
    if (before) disown(before);
    this.vertex.grad = value ? own(value) : null;
  }

  /**
   * Calls `hook` with this leaf in each backward pass, as soon as its `.grad` has all that the pass adds to it: the pass goes on
   * afterwards, with older parts of the graph. Returns what removes the hook. An error that it throws ends the pass. `grad()` adds
   * nothing and calls none; a captured function calls them only while it is captured.
   * Throws StateError for a tensor that an op made, or without requiresGrad. As torch's register_post_accumulate_grad_hook.
   */
  registerPostAccumulateGradHook(hook: (leaf: Tensor) => void): () => void {
    if (this.vertex.node || !this.requiresGrad) {
      throw new StateError({
        rule: "A gradient is accumulated in leaves: tensors with requiresGrad that no op made",
        got: this.vertex.node ? `the result of ${this.vertex.node.name}` : `${this} without requiresGrad`,
      });
    }
    return watchGradients([this.vertex], { ready: () => hook(this) });
  }

  /** A second handle on the same value, for autograd too; each handle is disposed on its own. */
  alias(): Tensor {
    const t = new Tensor(this.storage.retain(), this.shape, this.vertex);
    t.owned = true;
    return t;
  }

  /** A second handle that the tape keeps and disposes. */
  keep(): Tensor {
    return new Tensor(this.storage.retain(), this.shape, this.vertex, false);
  }

  /** This handle's storage under a handle at another vertex; this one is disposed. */
  moveTo(vertex: Vertex): Tensor {
    const t = new Tensor(this.storage.retain(), this.shape, vertex);
    t.owned = this.owned;
    this.dispose();
    return t;
  }

  /** The same numbers (shared storage) under another shape, outside the graph. */
  shareAs(shape: Shape): Tensor {
    return new Tensor(this.storage.retain(), shape);
  }

  /** The same numbers (shared storage) without history. */
  detach(): Tensor {
    return this.shareAs(this.shape);
  }

  /** Gives the memory back; other handles on the same storage and the tape keep theirs. May be called twice. */
  dispose(): void {
    const held = this.held;
    this.held = null;
    held?.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  dependencies(visit: (member: ScopeMember) => void): void {
    const node: Node | null = this.vertex.node;
    if (node) visit(node);
    if (this.vertex.grad) visit(this.vertex.grad);
  }

  belongings(): ScopeMember | null {
    return this.vertex.grad;
  }

  leaveScopes(): void {
    this.held?.watch();
  }

  /** A copy of the numbers, in row-major order. */
  dataSync(): NumberArray {
    return this.storage.view.slice();
  }

  /**
   * A copy of the numbers, in row-major order; the form that works on every device. float16 comes as a Float32Array, since Node 20
   * has no array of halves.
   */
  async data(): Promise<NumberArray> {
    const { storage } = this;
    if (!storage.block) return this.dataSync();
    const { block, start, length, dtype } = storage;
    return memoryOf(this.device).read({ block, start, length, dtype });
  }

  /** The numbers as nested arrays; a number for rank 0. */
  toArray(): NestedArray {
    const flat = this.storage.view;
    const build = (axis: number, offset: number, stride: number): NestedArray => {
      if (axis === this.rank) return flat[offset]!;
      const step = stride / this.shape[axis]!;
      return Array.from({ length: this.shape[axis]! }, (_, i) => build(axis + 1, offset + i * step, step));
    };
    return build(0, 0, this.size);
  }

  /** The only element. Throws ShapeError when there is not exactly one. */
  item(): number {
    if (this.size !== 1) {
      throw new ShapeError({
        rule: "item() reads a tensor of one element",
        got: `shape ${formatShape(this.shape)}`,
        fix: "Use dataSync() or toArray(), or reduce it first",
      });
    }
    checkHostAccess();
    return heap.read(this.storage, 0);
  }

  /**
   * Overwrites the numbers in place. A graph that saved the old ones will refuse to go back.
   * Throws DeviceError for a tensor on another device, bar one on the CPU, which is sent.
   */
  assign(values: Tensor | ArrayLike<number>): this {
    const given = values instanceof Tensor ? values.size : values.length;
    if (given !== this.size) {
      throw new ShapeError({
        rule: `assign needs ${this.size} numbers for shape ${formatShape(this.shape)}`,
        got: String(given),
      });
    }
    const { storage } = this;
    checkHostAccess();
    if (values instanceof Tensor && values.storage.block && sameKind(values, this)) {
      memoryOf(this.device).copy(values.storage as DevicePlace, storage as DevicePlace);
    } else {
      const from = values instanceof Tensor ? values.storage.view : values;
      if (storage.block) memoryOf(this.device).write(storage as DevicePlace, numbersOf(from, this.dtype));
      else storage.view.set(from);
    }
    storage.version++;
    return this;
  }

  /** Takes over another tensor's memory and type, keeping identity: who holds this parameter sees the new numbers. */
  adopt(other: Tensor): this {
    if (formatShape(other.shape) !== formatShape(this.shape)) {
      throw new ShapeError({ rule: `adopt keeps the shape ${formatShape(this.shape)}`, got: formatShape(other.shape) });
    }
    const before = this.held;
    this.held = other.storage.retain();
    this.held.watch();
    this.type = other.dtype;
    this.place = other.device;
    before?.release();
    return this;
  }

  toString(): string {
    return `Tensor(${formatShape(this.shape)}, ${this.dtype}${this.device === "cpu" ? "" : `, ${this.device}`}${this.disposed ? ", disposed" : ""})`;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    const values = this.disposed || this.device !== "cpu" || this.size > 64 ? "" : ` ${JSON.stringify(this.toArray())}`;
    return this.toString() + values;
  }
}

const sameKind = (a: Tensor, b: Tensor): boolean => a.dtype === b.dtype && a.device === b.device;

/** Memory for a shape; where there is none, the error names the shape. */
export function storageFor(shape: Shape, dtype: DType, device?: DeviceName): Storage {
  try {
    return new Storage(numberOfElements(shape), dtype, device);
  } catch (error) {
    throw forPurpose(error, `for ${formatShape(shape)} ${dtype}`);
  }
}
