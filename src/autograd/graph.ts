import { StateError } from "../base/errors.js";
import { formatShape } from "../base/shape.js";
import { type ScopeMember, track } from "../memory/scope.js";
import type { GradientWatcher } from "./gradient_watch.js";
import { bytesOf } from "./probe.js";
import type { Tensor } from "./tensor.js";

/** Whether ops write to the tape. */
let recording = true;

export const isRecording = (): boolean => recording;

/** Turns the tape on or off and returns what it was, for callers that put it back themselves. */
export function setRecording(on: boolean): boolean {
  const before = recording;
  recording = on;
  return before;
}

function withRecording<T>(on: boolean, body: () => T): T {
  const before = setRecording(on);
  try {
    return body();
  } finally {
    recording = before;
  }
}

let spare: Tensor | null = null;

/** Says which tensor the backward of one node may overwrite: its dy, if nobody asks for that one afterwards. */
export function setSpare(dy: Tensor | null): void {
  spare = dy;
}

/**
 * Where the backward of an op with one input puts dx of dy's shape and type: in place of dy if nobody needs that any more
 * or sees its memory, else in a new tensor.
 */
export function gradientLike(dy: Tensor): Tensor {
  return spare === dy && dy.storage.exclusive ? dy : dy.emptyLike();
}

/** Runs `body` without writing to the tape: nothing inside can be differentiated, and nothing is kept for it. */
export const noGrad = <T>(body: () => T): T => withRecording(false, body);

/** Runs `body` with the tape on, also inside noGrad. */
export const enableGrad = <T>(body: () => T): T => withRecording(true, body);

/**
 * Who asks for a gradient through a place. `onDemand` is a module's input that nobody marked: the tape is written for it
 * so that `module.backward` can reach it, but `loss.backward()` spends nothing on it.
 */
export const Need = { none: 0, onDemand: 1, wanted: 2 } as const;
export type Need = (typeof Need)[keyof typeof Need];

/** A tensor's place in the graph. Tensors that are the same value for autograd (saved copies of a handle) share one. */
export class Vertex {
  grad: Tensor | null = null;
  /** Who follows a leaf's gradient; null for nobody. */
  watchers: Set<GradientWatcher> | null = null;

  constructor(
    public need: Need,
    readonly node: Node | null = null,
  ) {}
}

/** What a node needs to know of its op. */
export interface NodeRule {
  readonly name: string;
  /** One thunk an input; saved values and wishes come by name. */
  readonly backward:
    | ((
        dy: Tensor,
        saved: Record<string, Tensor | null>,
        options: unknown,
        needs: Record<string, boolean>,
      ) => Readonly<Record<string, (() => Tensor) | undefined>>)
    | null;
  readonly twiceDifferentiable?: true;
  readonly separable?: true;
}

let nodes = 0;

/** Where nodes get saved values that they did not keep. */
export interface Source {
  /** Gives them to all its nodes. */
  restore(): void;
  /** One of its nodes will not ask any more. */
  release(): void;
}

/** Told of every node as it is recorded. A node that is given a source does not keep what it saves. */
export type Recorder = (node: Node) => Source | null;

let recorder: Recorder | null = null;

export const currentRecorder = (): Recorder | null => recorder;

/** Runs `body` with its nodes told to `to`, and to nobody else. */
export function recordedBy<T>(to: Recorder, body: () => T): T {
  const before = recorder;
  recorder = to;
  try {
    return body();
  } finally {
    recorder = before;
  }
}

/**
 * One recorded op: where its inputs come from, what it saved, and how to go back. Ids rise with time, so that every
 * input of a node has a smaller id than the node: sorting by id is a topological order.
 */
export class Node implements ScopeMember {
  readonly id = nodes++;
  owned = false;
  mark = 0;
  readonly output: Vertex;
  private saved: (Tensor | null)[] | null = null;
  private source: Source | null = null;
  readonly versions: readonly number[];
  /** Type and shape of what was saved; noted only while somebody records. */
  readonly savedKinds: readonly string[] | null;

  /** `out`, which has no place in the graph yet, gets this node's. */
  constructor(
    private readonly rule: NodeRule,
    private readonly inputNames: readonly string[],
    readonly inputs: readonly (Vertex | null)[],
    out: Tensor,
    private readonly savedNames: readonly string[],
    saved: Readonly<Record<string, Tensor | null | undefined>>,
    readonly options: unknown,
  ) {
    let need: Need = Need.none;
    for (const input of inputs) if (input && input.need > need) need = input.need;
    this.output = new Vertex(need, this);
    // Before the tape takes its handles: an op that saves its own result saves it at the place that result has.
    out.vertex = this.output;
    const list = savedNames.map((name) => saved[name] ?? null);
    this.versions = list.map(versionOf);
    this.savedKinds = recorder && list.map((t) => (t ? `${t.dtype} ${formatShape(t.shape)}` : ""));
    this.source = recorder?.(this) ?? null;
    // Handles of the tape's own: what the user does with theirs (dispose, using) does not touch the backward pass.
    if (!this.source) this.saved = list.map(keepHandle);
    track(this);
  }

  get name(): string {
    return this.rule.name;
  }

  /** Whether backward is made of differentiable ops, so that it can itself be recorded. */
  get twiceDifferentiable(): boolean {
    return this.rule.twiceDifferentiable === true;
  }

  /** Whether its gradients are computed each by itself, so that backward may be called for some of them at a time. */
  get separable(): boolean {
    return this.rule.separable === true;
  }

  backward(dy: Tensor, needed: readonly boolean[]): (Tensor | null)[] {
    // What restores it may be a checkpoint around this node's own, which then has that one restore it.
    while (this.source) this.source.restore();
    if (this.saved === null) {
      throw new StateError({
        rule: `The graph through ${this.name} can be walked back once`,
        got: "a second backward, or a backward after its scope ended",
        fix: "Pass { retainGraph: true } to the first one, or call backward inside the scope",
      });
    }
    const byName: Record<string, Tensor | null> = {};
    for (let i = 0; i < this.saved.length; i++) {
      const t = this.saved[i]!;
      if (t && t.storage.version !== this.versions[i]) throw savedValueChanged(this.name);
      byName[this.savedNames[i]!] = t;
    }
    const needs: Record<string, boolean> = {};
    for (let i = 0; i < needed.length; i++) needs[this.inputNames[i]!] = needed[i]!;
    const thunks = this.rule.backward!(dy, byName, this.options, needs);
    return this.inputNames.map((name, i) => (needed[i] ? (thunks[name]?.() ?? null) : null));
  }

  /** Of the tensors that it holds for backward. */
  get savedBytes(): number {
    return bytesOf(this.saved ?? []);
  }

  /** Whether the node can still go back. */
  get alive(): boolean {
    return this.saved !== null || this.source !== null;
  }

  /**
   * Takes what another node, which did the same, keeps or has a source for; that one cannot go back any more. `place`
   * says where on this node's side a vertex on the other's side lies.
   */
  takeOver(other: Node, place: (vertex: Vertex) => Vertex): void {
    const { saved, source } = this;
    this.saved = other.saved?.map((t) => t?.moveTo(place(t.vertex)) ?? null) ?? null;
    this.source = other.source;
    other.saved = other.source = null;
    if (saved) for (const t of saved) t?.dispose();
    source?.release();
  }

  /** Lets go of the saved values; the node can then not go back any more. */
  dispose(): void {
    if (this.saved) for (const t of this.saved) t?.dispose();
    this.saved = null;
    const { source } = this;
    this.source = null;
    source?.release();
  }

  dependencies(visit: (member: ScopeMember) => void): void {
    for (const input of this.inputs) if (input?.node) visit(input.node);
  }

  leaveScopes(): void {
    if (this.saved) for (const t of this.saved) t?.leaveScopes();
  }
}

const versionOf = (t: Tensor | null): number => (t ? t.storage.version : 0);
const keepHandle = (t: Tensor | null): Tensor | null => (t ? t.keep() : null);

export const savedValueChanged = (name: string): StateError =>
  new StateError({
    rule: `Values that ${name} saved for backward must not change before it`,
    got: "one that was written in place",
    fix: "Update parameters after backward, or work on a copy",
  });
