import { nearestName } from "../../../base/options.js";
import type { Operator, OperatorTable } from "../operator.js";
import { activationOperators } from "./activation.js";
import { attentionOperators } from "./attention.js";
import { castOperators } from "./cast.js";
import { convOperators } from "./conv.js";
import { elementwiseOperators } from "./elementwise.js";
import { indexingOperators } from "./indexing.js";
import { makingOperators } from "./making.js";
import { matmulOperators } from "./matmul.js";
import { microsoftOperators } from "./microsoft.js";
import { movementOperators } from "./movement.js";
import { normOperators } from "./norm.js";
import { paddingOperators } from "./padding.js";
import { poolOperators } from "./pool.js";
import { reductionOperators } from "./reduction.js";
import { resizeOperators } from "./resize.js";

/** Opsets of the default domain that are read. */
export const OPSETS = { least: 9, most: 24 } as const;

/** Families of the default domain, in the order of the documentation. */
export const families: Readonly<Record<string, OperatorTable>> = {
  Normalization: normOperators,
  "Products and convolutions": { ...matmulOperators, ...convOperators, ...attentionOperators },
  Pools: poolOperators,
  Elementwise: elementwiseOperators,
  Activations: activationOperators,
  Reductions: reductionOperators,
  Movement: { ...movementOperators, ...paddingOperators, ...resizeOperators },
  Indexing: indexingOperators,
  "Shapes, constants and types": { ...makingOperators, ...castOperators },
};

const tables: ReadonlyMap<string, ReadonlyMap<string, Operator | readonly Operator[]>> = new Map([
  ["", new Map(Object.values(families).flatMap((table) => Object.entries(table)))],
  ["com.microsoft", new Map(Object.entries(microsoftOperators))],
]);

/** The default domain has two names. */
export const domainOf = (domain: string): string => (domain === "ai.onnx" ? "" : domain);

/** All meanings of an operator, oldest first; none for one that is not there. */
export function meanings(domain: string, type: string): readonly Operator[] {
  const found = tables.get(domainOf(domain))?.get(type);
  return found === undefined ? [] : "run" in found ? [found] : found;
}

/** What an operator means at an opset, or why it means nothing. */
export function operatorAt(domain: string, type: string, opset: number): Operator | string {
  const all = meanings(domain, type);
  if (all.length === 0) {
    const names = [...(tables.get(domainOf(domain))?.keys() ?? [])];
    const near = nearestName(type, names);
    return near && near.toLowerCase() === type.toLowerCase() ? `did you mean ${near}?` : "not there";
  }
  const found = all.findLast(({ since }) => since <= opset);
  if (!found) return `there from opset ${all[0]!.since} on`;
  return found.until !== undefined && opset >= found.until ? `not there from opset ${found.until} on` : found;
}
