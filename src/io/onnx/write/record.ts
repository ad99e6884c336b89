import { noGrad, type OpCall, type Phase, type Probe, setProbe, Tensor } from "../../../autograd/index.js";
import { FormatError, StateError, UnsupportedKernel } from "../../../base/errors.js";
import { formatShape } from "../../../base/shape.js";
import { scope } from "../../../memory/scope.js";
import type { Storage } from "../../../memory/storage.js";
import type { Module } from "../../../nn/index.js";
import { insideCall } from "../../../nn/module.js";
import type { Exporter } from "./exporter.js";
import type { Graph, Value } from "./graph.js";
import { translations } from "./translations.js";

/** A tensor that the exported model is given, and the type it is given in. */
export interface GivenInput {
  readonly name: string;
  readonly tensor: Tensor;
  /** For an int32 tensor: what the file declares. */
  readonly integers: "int32" | "int64";
}

export interface GivenOutput {
  /** Where it stands in what forward returned: "" for a tensor alone. */
  readonly key: string;
  readonly value: Value;
}

/** What a run was written down as. Constants read their numbers from tensors of the run until it is released. */
export interface Recorded {
  readonly graph: Graph;
  readonly inputs: readonly Value[];
  readonly outputs: readonly GivenOutput[];
  release(): void;
}

interface Frame {
  readonly op: string;
  readonly exporter: Exporter | null;
}

/** Where a tensor's memory holds what the graph says it does. */
interface Known {
  readonly value: Value;
  readonly version: number;
}

/**
 * Follows one run of a model, op by op. A tensor is known by its memory, which handles and reshapes share; memory that no op
 * has written in this run, nor the input, holds constants.
 */
class Recorder implements Probe {
  readonly traces = true;
  readonly #frames: Frame[] = [];
  /** Ops that are open and written as a whole: those inside are none of the graph's business. */
  #whole = 0;
  readonly #known = new Map<Storage, Known>();
  /** Results beside an op's own, which are not written: the op's name. */
  readonly #aside = new Map<Storage, string>();
  readonly #constants = new Map<Storage, Known>();
  readonly #kept: Tensor[] = [];
  readonly #paths: string[] = [""];
  readonly #stateNames: ReadonlyMap<Storage, string>;
  readonly #modulePaths: ReadonlyMap<Module, string>;

  constructor(
    readonly graph: Graph,
    model: Module,
  ) {
    const named = [...model.namedParameters(), ...model.namedBuffers()];
    this.#stateNames = new Map(named.map(([name, t]) => [t.storage, name]));
    this.#modulePaths = new Map(model.namedModules().map(([path, module]) => [module, path]));
  }

  input({ name, tensor, integers }: GivenInput): Value {
    const whole = tensor.dtype === "int32";
    const value = this.graph.input(name, tensor.shape, whole ? integers : this.graph.real);
    this.#bind(tensor, this.graph.cast(value, this.graph.typeOf(tensor.dtype)));
    return value;
  }

  /** Tells which module is at work, until the function that it returns is called. */
  module(module: Module): () => void {
    const outer = this.#paths[this.#paths.length - 1]!;
    const path = this.#modulePaths.get(module) ?? `${outer}${outer && "."}${module.constructor.name}`;
    this.#paths.push(path);
    return () => this.#paths.pop();
  }

  enter(op: string, phase: Phase): void {
    const translation = phase === "forward" ? translations.get(op) : undefined;
    const exporter = typeof translation === "function" ? translation : null;
    this.#frames.push({ op, exporter });
    if (exporter) this.#whole++;
  }

  leave(_bytes: number, call?: OpCall): void {
    const { op, exporter } = this.#frames.pop()!;
    if (exporter) this.#whole--;
    if (this.#whole > 0 || !call) return;
    const { inputs, options, out, extra } = call;
    const given = Object.values(inputs).filter((t): t is Tensor => t instanceof Tensor);
    if (!given.some((t) => this.#known.has(t.storage))) return;
    this.graph.path = this.#paths[this.#paths.length - 1]!;
    if (exporter) {
      const edges = Object.entries(inputs).map(([name, t]): [string, Value | null] => [
        name,
        // An op that writes over its input has raised the version itself.
        t ? this.value(t, t.storage === out.storage) : null,
      ]);
      const context = { g: this.graph, value: (t: Tensor) => this.value(t), out };
      this.#bind(out, exporter(context, Object.fromEntries(edges), options as never));
    } else if (!this.#known.has(out.storage)) {
      throw this.#untranslated(op);
    }
    this.#setAside(op, extra);
  }

  /** The edge for a tensor, a constant where the run has not made it. */
  value(t: Tensor, written = false): Value {
    const { storage } = t;
    const known = this.#known.get(storage) ?? this.#constants.get(storage);
    if (!known) return this.#constant(t);
    if (!written && known.version !== storage.version) throw changed(t, this.#here());
    return this.graph.reshape(known.value, t.shape);
  }

  /** Whether the graph computes this tensor. */
  computes = (t: Tensor): boolean => this.#known.has(t.storage);

  /** Constants are read when the file is written: nobody may have changed them since they were used. */
  finish(): void {
    for (const t of this.#kept) if (this.#constants.get(t.storage)!.version !== t.storage.version) throw changed(t, "");
  }

  release = (): void => {
    for (const t of this.#kept) t.dispose();
    this.#kept.length = 0;
  };

  #bind(t: Tensor, value: Value): void {
    this.#known.set(t.storage, { value, version: t.storage.version });
  }

  #constant(t: Tensor): Value {
    const aside = this.#aside.get(t.storage);
    if (aside) {
      throw new FormatError({
        rule: "An op is written with its one result",
        got: `statistics that ${aside} gives beside it${this.#here()}`,
        fix: "Compute them with tensor methods",
      });
    }
    const stateName = this.#stateNames.get(t.storage) ?? null;
    const { graph } = this;
    if (t.size === 1 && stateName === null) {
      return graph.reshape(graph.scalar(t.storage.view[0]!, graph.typeOf(t.dtype)), t.shape);
    }
    const kept = t.keep();
    this.#kept.push(kept);
    const value = graph.tensor(kept, stateName);
    this.#constants.set(t.storage, { value, version: t.storage.version });
    return value;
  }

  #setAside(op: string, extra: unknown): void {
    if (extra instanceof Tensor) {
      if (!this.#known.has(extra.storage)) this.#aside.set(extra.storage, op);
    } else if (extra !== null && typeof extra === "object") {
      for (const part of Object.values(extra)) this.#setAside(op, part);
    }
  }

  #here(): string {
    const path = this.#paths[this.#paths.length - 1];
    return path ? ` in ${path}` : "";
  }

  #untranslated(op: string): UnsupportedKernel {
    const translation = translations.get(op);
    const reason = typeof translation === "object" ? `: ${translation.reason}` : "";
    return new UnsupportedKernel({
      rule: "exportOnnx writes models of ops that ONNX has a form for",
      got: `the op ${op}${this.#here()}${reason}`,
      fix: "Compute this part with other layers or tensor methods, or leave it out of the model that is exported",
    });
  }
}

const changed = (t: Tensor, here: string): StateError =>
  new StateError({
    rule: "exportOnnx follows ops; numbers that are changed in place between them cannot be followed",
    got: `a tensor of shape ${formatShape(t.shape)} that was written to (assign, or an initializer)${here}`,
    fix: "Make a new tensor instead",
  });

/** Every tensor of a result, which is one, or a list or object of such. */
function tensorsOf(result: unknown, key = ""): [string, Tensor][] {
  if (result instanceof Tensor) return [[key, result]];
  if (result === null || typeof result !== "object") return [];
  return Object.entries(result).flatMap(([name, part]) => tensorsOf(part, key ? `${key}_${name}` : name));
}

/** Runs `model` in evaluation, nothing recorded for gradients, and writes down what it does with `inputs`. */
export function record(graph: Graph, model: Module, args: readonly unknown[], inputs: readonly GivenInput[]): Recorded {
  const recorder = new Recorder(graph, model);
  const modes = model.modules().map((module) => [module, module.training] as const);
  const before = setProbe(null);
  try {
    model.eval();
    const edges = inputs.map((input) => recorder.input(input));
    let outputs: GivenOutput[] = [];
    // Nothing is returned from the scope: it would look for tensors all over the graph.
    scope(() =>
      noGrad(() => {
        setProbe(recorder);
        const result: unknown = insideCall(
          (module) => recorder.module(module),
          () => model.forward(...args),
        );
        setProbe(null);
        outputs = outputsOf(recorder, result);
      }),
    );
    recorder.finish();
    return { graph, inputs: edges, outputs, release: recorder.release };
  } catch (error) {
    recorder.release();
    throw error;
  } finally {
    setProbe(before);
    for (const [module, training] of modes) module.training = training;
  }
}

function outputsOf(recorder: Recorder, result: unknown): GivenOutput[] {
  const found = tensorsOf(result);
  if (found.length === 0) {
    throw new FormatError({ rule: "A model that is exported returns tensors", got: String(result) });
  }
  const taken = new Set<Value>();
  return found.map(([key, t]) => {
    if (!recorder.computes(t)) throw independent(key);
    const value = recorder.value(t);
    // Each output has a name of its own, and no input's.
    const own = value.node !== null && !taken.has(value) ? value : recorder.graph.unary("Identity", value);
    taken.add(own);
    return { key, value: own };
  });
}

const independent = (key: string): FormatError =>
  new FormatError({
    rule: "Each output is computed from the inputs by ops",
    got: `${key === "" ? "a result" : `a result (${key})`} that no op has made of an input: it would be the same numbers for ever`,
    fix: "Compute with tensor methods, not with numbers read by item(), dataSync() or data()",
  });
