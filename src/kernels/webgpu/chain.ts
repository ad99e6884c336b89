import type { Slot } from "../../memory/heap.js";
import type { Buffer } from "./buffers.js";
import { type Expression, type Link, linkedProgram } from "./chain_text.js";
import type { Dispatch } from "./device.js";
import type { Program } from "./program.js";

/** Expressions and numbers of a chain, each kind at most; with their parameters they fit the 64 words of a dispatch. */
const MOST_LINKS = 16;
/** Every device binds eight buffers to a shader. */
const MOST_BUFFERS = 8;
const LANES = 256;
/** Places in chains that are remembered; calls that never come in the same order again must not fill the memory. */
const MOST_NODES = 1 << 14;

/** A call as it would be queued alone. */
interface Call {
  readonly program: Program;
  readonly dispatch: Dispatch;
}

/** What a call of the chain gives. */
interface Value extends Call, Link {
  /** Where it has to be stored: null once its buffer was freed or written anew. */
  slot: Slot | null;
  readonly target: Slot;
}

/** What the chain reads and did not compute itself. */
interface Source {
  readonly slot: Slot;
  /** The first number alone, for all elements. */
  readonly stays: boolean;
}

/** A place in the tree of all chains met so far: what was called up to it, on which operands. */
class Place {
  private readonly next = new Map<number, Place>();
  /** Times that a chain ended here. */
  meetings = 0;
  program: Program | null = null;

  /** Null where there is no room for a new one. */
  step(key: number): Place | null {
    let to = this.next.get(key);
    if (!to && places < MOST_NODES) {
      places++;
      to = new Place();
      this.next.set(key, to);
    }
    return to ?? null;
  }
}

let places = 0;
const root = new Place();

const named = (letter: string): readonly string[] => Array.from({ length: 2 * MOST_LINKS }, (_, i) => `${letter}${i}`);
const [sourceNames, resultNames, parameterNames] = ["x", "y", "k"].map(named) as [
  readonly string[],
  readonly string[],
  readonly string[],
];

const sameSlot = (a: Slot, b: Slot): boolean =>
  a.block === b.block && (a.start ?? 0) === (b.start ?? 0) && a.length === b.length && a.dtype === b.dtype;
const isFloat = ({ dtype, block }: Slot): boolean => (dtype === "float32" || dtype === "float16") && Boolean(block);
const failed = ({ block }: Slot): boolean => (block as Buffer).failure !== null;

/**
 * Elementwise calls that follow each other, kept back so that they can go to the device as one shader: what one call gives, the
 * next takes from a register, and what was freed by then is not stored at all. A chain met for the first time goes call by call,
 * as if there were no chain: a shader of its own costs more to compile than it saves once.
 */
export class Chain {
  private values: Value[] = [];
  private sources: Source[] = [];
  /** The value that each buffer will hold. */
  private held = new Map<unknown, number>();
  private links = 0;
  private length = 0;
  private place: Place | null = root;

  /** `send` queues a call; `isClosed` tells that the device is gone, and with it all that waits. */
  constructor(
    private readonly send: (program: Program, dispatch: Dispatch) => void,
    private readonly isClosed: () => boolean,
  ) {}

  /**
   * Takes a call whose inputs and result `expression` names; bit i of `stays` says that of input i the first number alone is
   * taken. What waits is sent first where the call cannot join it. False where it cannot be part of any chain.
   */
  add(program: Program, dispatch: Dispatch, expression: Expression, stays: number): boolean {
    const y = dispatch.operands.y!;
    if (y.length === 0 || !isFloat(y)) return false;
    for (const name of expression.inputs) if (!isFloat(dispatch.operands[name]!)) return false;
    if (this.join(program, dispatch, expression, stays)) return true;
    if (this.values.length === 0) return false;
    this.flush();
    return this.join(program, dispatch, expression, stays);
  }

  /** The buffer was freed: whoever takes it next does not ask for what it held. */
  release(buffer: Buffer): void {
    const at = this.held.get(buffer);
    if (at === undefined) return;
    this.values[at]!.slot = null;
    this.held.delete(buffer);
  }

  /** Sends what waits. */
  flush(): void {
    const { values, sources, length } = this;
    if (values.length === 0) return;
    const place = this.placeOfResults();
    this.values = [];
    this.sources = [];
    this.held.clear();
    this.links = 0;
    this.place = root;
    if (this.isClosed()) return;
    if (place && ++place.meetings > 1 && hasRoom(values, sources)) this.sendFused(place, values, sources, length);
    else for (const value of values) this.sendAlone(value);
  }

  /** Whether the call could join; nothing has changed if not. */
  private join(program: Program, dispatch: Dispatch, expression: Expression, stays: number): boolean {
    const { operands, parameters } = dispatch;
    const y = operands.y!;
    const { inputs } = expression;
    const isNumber = inputs.length === 0 && y.length === 1 && y.dtype === "float32";
    if (isNumber ? this.values.length - this.links >= MOST_LINKS : this.links >= MOST_LINKS) return false;
    if (!isNumber && this.links > 0 && y.length !== this.length) return false;
    const before = this.held.get(y.block);
    if (before !== undefined && !sameSlot(this.values[before]!.target, y)) return false;
    const known = this.sources.length;
    const from: number[] = [];
    let key = expression.id * 2 + (y.dtype === "float16" ? 1 : 0);
    for (let i = 0; i < inputs.length; i++) {
      // Of two operands in one place the second is not new.
      const had = this.sources.length;
      const at = this.find(operands[inputs[i]!]!, (stays & (1 << i)) !== 0, y.length);
      if (at === null) break;
      from.push(at);
      key = key * 64 + this.codeOf(at, had);
    }
    if (from.length < inputs.length || !this.fits(y, isNumber, before)) {
      this.sources.length = known;
      return false;
    }
    // What is gone is said at the call and not when it is sent.
    for (const name of inputs) void (operands[name]!.block as Buffer).buffer;
    void (y.block as Buffer).buffer;
    if (before !== undefined) this.values[before]!.slot = null;
    const number = expression.parameter ? parameters![expression.parameter]! : 0;
    this.held.set(y.block, this.values.length);
    this.values.push({
      program,
      dispatch,
      expression,
      from,
      isNumber,
      number,
      half: y.dtype === "float16",
      slot: y,
      target: y,
    });
    if (!isNumber) {
      this.links++;
      this.length = y.length;
    }
    this.place = this.place?.step(isNumber ? 0 : key) ?? null;
    return true;
  }

  /** Where an input comes from: a value of the chain, or -1 - i for source i. Null where it has to be in memory first. */
  private find(slot: Slot, stays: boolean, length: number): number | null {
    const at = this.held.get(slot.block);
    if (at !== undefined) {
      const value = this.values[at]!;
      if (!sameSlot(value.target, slot)) return null;
      return (value.isNumber ? stays || length === 1 : !stays || length === 1) ? at : null;
    }
    if (!stays && slot.length !== length) return null;
    const { sources } = this;
    for (let i = 0; i < sources.length; i++) {
      if (sources[i]!.stays === stays && sameSlot(sources[i]!.slot, slot)) return -1 - i;
    }
    return -sources.push({ slot, stays });
  }

  /** Operands as they are told apart in the tree: values, sources that were there, and new ones by what they are. */
  private codeOf(at: number, known: number): number {
    if (at >= 0) return at;
    const i = -1 - at;
    if (i < known) return 36 + i;
    const { slot, stays } = this.sources[i]!;
    return 32 + (slot.dtype === "float16" ? 1 : 0) + (stays ? 2 : 0);
  }

  /** Whether the result can be stored beside what else the chain stores and reads. */
  private fits(y: Slot, isNumber: boolean, before: number | undefined): boolean {
    const { sources, held, values } = this;
    let buffers = sources.length;
    for (const at of held.values()) if (!values[at]!.isNumber) buffers++;
    if (before === undefined && !isNumber) buffers++;
    if (buffers > MOST_BUFFERS) return false;
    // A lane stores where it has read itself; what others read there must be sent before.
    for (const { slot, stays } of sources) if (slot.block === y.block && (stays || !sameSlot(slot, y))) return false;
    return true;
  }

  /**
   * The place in the tree for what is stored, too; null for one call, and where nothing is stored: calls whose results nobody
   * takes are asked for to be timed.
   */
  private placeOfResults(): Place | null {
    let { place } = this;
    let stored = 0;
    for (let v = 0; v < this.values.length; v++) {
      const { slot, isNumber } = this.values[v]!;
      if (!slot || isNumber) continue;
      stored++;
      place = place?.step(-1 - v) ?? null;
    }
    return stored > 0 && this.values.length > 1 ? place : null;
  }

  private sendAlone(value: Value): void {
    const { program, dispatch } = value;
    for (const name in dispatch.operands) {
      const slot = dispatch.operands[name];
      // The device had no room for it, which the next reading says.
      if (slot && failed(slot)) return;
    }
    this.send(program, dispatch);
  }

  private sendFused(place: Place, values: readonly Value[], sources: readonly Source[], size: number): void {
    const operands: Record<string, Slot> = {};
    const parameters: Record<string, number> = { size, zero: 0 };
    for (let i = 0; i < sources.length; i++) operands[sourceNames[i]!] = sources[i]!.slot;
    for (let v = 0; v < values.length; v++) {
      const { slot, expression, number, isNumber } = values[v]!;
      if (expression.parameter) parameters[parameterNames[v]!] = number;
      if (slot && !isNumber) operands[resultNames[v]!] = slot;
    }
    place.program ??= linkedProgram(values, sources, Object.keys(operands), LANES);
    this.send(place.program, { operands, parameters, groups: (step) => Math.ceil(size / (LANES * step)) });
    // No other value is in their buffers, and what was read of them went before.
    for (const value of values) if (value.isNumber && value.slot) this.sendAlone(value);
  }
}

/** Whether the device had room for what a chain reads and stores. */
const hasRoom = (values: readonly Value[], sources: readonly Source[]): boolean =>
  !sources.some(({ slot }) => failed(slot)) && !values.some(({ slot }) => slot && failed(slot));
