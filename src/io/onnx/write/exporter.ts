import type { Tensor } from "../../../autograd/index.js";
import type { Graph, Value } from "./graph.js";

/** What an exporter is given besides the graph it adds to. */
export interface Context {
  readonly g: Graph;
  /** The edge for a tensor of the run, constants included. */
  readonly value: (t: Tensor) => Value;
  /** The op's result in the run. */
  readonly out: Tensor;
}

/** An op's inputs by the names that it gives them; those it was called without are null. */
export type Inputs = Readonly<Record<string, Value | null>>;

/** Adds the nodes of one op and returns the edge that is its result. `options` are those that the op was called with. */
export type Exporter = (context: Context, inputs: Inputs, options: never) => Value;

/**
 * How an op is written: by an exporter; "composed": as the ops that its own forward consists of; or not at all, for the reason
 * given in words.
 */
export type Translation = Exporter | "composed" | { readonly reason: string };
export type Translations = Readonly<Record<string, Translation>>;
