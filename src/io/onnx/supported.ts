import { UnsupportedKernel } from "../../base/errors.js";
import { damaged } from "../damage.js";
import { readAttributes } from "./attributes.js";
import type { Functions } from "./functions.js";
import { graphsOf, placeOf } from "./node_order.js";
import { domainOf, OPSETS, operatorAt } from "./operators/index.js";
import type { Node, OperatorSet } from "./proto/onnx_pb.js";

/** Versions of operators by domain. */
export type Opsets = ReadonlyMap<string, number>;

export function opsetsOf(sets: readonly OperatorSet[], file: string, at = "opset_import"): Opsets {
  const opsets = new Map<string, number>();
  for (const { domain, version } of sets) {
    const name = domainOf(domain);
    if (opsets.has(name) && opsets.get(name) !== Number(version)) {
      throw damaged(file, at, { rule: "Each domain has one version", got: JSON.stringify(domain) });
    }
    opsets.set(name, Number(version));
  }
  return opsets;
}

/** The version of a node's domain; other domains than the default one need not say theirs. */
export const versionOf = (opsets: Opsets, domain: string): number =>
  opsets.get(domainOf(domain)) ?? (domainOf(domain) === "" ? 0 : 1);

interface Lack {
  readonly place: string;
  readonly what: string;
}

/** How many nodes an error names. */
const NAMED = 12;

/** Throws UnsupportedKernel with all nodes whose operators are not there, those in functions and branches too. */
export function checkSupported(
  nodes: readonly { readonly node: Node; readonly place: string }[],
  opsets: Opsets,
  functions: Functions,
  file: string,
): void {
  const lacking: Lack[] = [];
  const seen = new Set<string>();
  const visit = (node: Node, place: string, versions: Opsets): void => {
    const called = functions.find(node);
    if (called) {
      if (seen.has(called.key)) return;
      seen.add(called.key);
      for (const [i, inner] of called.proto.node.entries())
        visit(inner, placeOf(inner, i, `${place}, `), called.opsets);
      return;
    }
    const what = lackOf(node, versions, file, place);
    if (what !== null) lacking.push({ place, what });
    for (const graph of graphsOf(node)) {
      for (const [i, inner] of graph.node.entries()) visit(inner, placeOf(inner, i, `${place}, `), versions);
    }
  };
  for (const { node, place } of nodes) visit(node, place, opsets);
  if (lacking.length === 0) return;
  const list = lacking.slice(0, NAMED).map(({ place, what }) => `${place}: ${what}`);
  if (lacking.length > NAMED) list.push(`and ${lacking.length - NAMED} more`);
  throw new UnsupportedKernel({
    rule: `loadOnnx computes the operators that docs/onnx-import.md lists, at opset ${OPSETS.least} to ${OPSETS.most}`,
    got: `${list.join("; ")} (${file})`,
    fix: "Export the model with another opset, or load the part before them with { outputs }",
  });
}

function lackOf(node: Node, opsets: Opsets, file: string, place: string): string | null {
  const domain = domainOf(node.domain);
  const version = versionOf(opsets, node.domain);
  if (domain === "" && (version < OPSETS.least || version > OPSETS.most)) return `opset ${version}`;
  if (domain === "" && node.opType === "If") return null;
  const operator = operatorAt(node.domain, node.opType, version);
  if (typeof operator === "string") return domain === "" ? operator : `not there (domain ${JSON.stringify(domain)})`;
  if (!operator.lacks || node.attribute.some((a) => a.refAttrName !== "")) return null;
  const moved = Object.entries(operator.moved ?? {}).filter(([, m]) => version < m.at);
  const specs = Object.fromEntries(moved.map(([name, { kind }]) => [name, { kind }]));
  return operator.lacks(readAttributes(node.attribute, { ...operator.attributes, ...specs }, version, file, place));
}
