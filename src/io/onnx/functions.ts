import { damaged } from "../damage.js";
import { domainOf } from "./operators/index.js";
import type { Function as FunctionProto, Node } from "./proto/onnx_pb.js";
import { type Opsets, opsetsOf } from "./supported.js";

interface Known {
  readonly key: string;
  readonly proto: FunctionProto;
  readonly opsets: Opsets;
}

/** Functions that a model brings along, by domain, name and overload. */
export class Functions {
  private readonly known = new Map<string, Known>();

  constructor(protos: readonly FunctionProto[], file: string) {
    for (const proto of protos) {
      const key = keyOf(proto.domain, proto.name, proto.overload);
      const at = `function ${key}`;
      if (this.known.has(key)) throw damaged(file, at, { rule: "Each function has a name of its own", got: key });
      if (new Set(proto.input).size !== proto.input.length) {
        throw damaged(file, at, { rule: "A function names each input once", got: proto.input.join(", ") });
      }
      this.known.set(key, { key, proto, opsets: opsetsOf(proto.opsetImport, file, at) });
    }
  }

  /** The function that a node calls. */
  find(node: Node): Known | undefined {
    return this.known.get(keyOf(node.domain, node.opType, node.overload));
  }
}

const keyOf = (domain: string, name: string, overload: string): string =>
  [domainOf(domain) || "ai.onnx", name, ...(overload ? [overload] : [])].join(".");
