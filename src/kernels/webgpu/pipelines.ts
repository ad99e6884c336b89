import { DeviceError } from "../../base/errors.js";
import { DeviceSlot, type Slot } from "../../memory/heap.js";
import type { Buffer } from "./buffers.js";
import { type Binding, type Constants, elementOf, type Program, shaderText } from "./program.js";
import type { Subgroups } from "./subgroups.js";

type Operands = Readonly<Record<string, Slot | null | undefined>>;

/** A shader made ready for one pattern of operands. */
export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  /** Numbers that an element of the shader has. */
  readonly step: 1 | 4;
  /** The operand that stands for each binding: those it shares a buffer with lie in the same one. */
  readonly first: readonly string[];
  readonly groups: Map<string, GPUBindGroup>;
}

/** Shaders compiled so far, by program, constants, and which operands there are, of which types, in shared buffers or not. */
export class PipelineCache {
  private readonly pipelines = new Map<Program, Map<string, Pipeline>>();
  private readonly layouts = new Map<string, GPUBindGroupLayout>();

  constructor(
    private readonly device: GPUDevice,
    private readonly subgroups: Subgroups | null,
    private readonly parameterBytes: number,
  ) {}

  get(program: Program, operands: Operands, constants: Constants, mayBeWide: boolean): Pipeline {
    const wide = program.wide === true && mayBeWide && fitsFour(program, operands);
    let key = wide ? "4" : "1";
    const buffers: unknown[] = [];
    for (const name in program.operands) {
      const slot = operands[name];
      if (!slot) {
        key += "-";
        continue;
      }
      let at = buffers.indexOf(slot.block);
      if (at < 0) at = buffers.push(slot.block) - 1;
      key += slot.dtype[0] === "f" ? slot.dtype[5] : "i";
      key += at;
    }
    for (const name in constants) key += `,${constants[name]}`;
    let made = this.pipelines.get(program);
    if (!made) {
      made = new Map();
      this.pipelines.set(program, made);
    }
    let pipeline = made.get(key);
    if (!pipeline) {
      pipeline = this.make(program, operands, constants, wide);
      made.set(key, pipeline);
    }
    return pipeline;
  }

  bindGroup({ pipeline, layout, first, groups }: Pipeline, operands: Operands, uniforms: GPUBuffer): GPUBindGroup {
    let key = "";
    for (let i = 0; i < first.length; i++) key += `${(operands[first[i]!]!.block as Buffer).id},`;
    let group = groups.get(key);
    if (!group) {
      if (groups.size >= 256) groups.clear();
      const entries = first.map((name, i) => ({
        binding: i + 1,
        resource: { buffer: (operands[name]!.block as Buffer).buffer },
      }));
      const parameters = { binding: 0, resource: { buffer: uniforms, size: this.parameterBytes } };
      // What Dawn and browsers say of a refused call begins with its label.
      const sizes = first.map((name) => `${name}: ${(operands[name]!.block as Buffer).bytes} bytes`);
      const label = `${pipeline.label}(${sizes.join(", ")})`;
      group = this.device.createBindGroup({ label, layout, entries: [parameters, ...entries] });
      groups.set(key, group);
    }
    return group;
  }

  /** Lets go of bind groups that hold a buffer which is about to be destroyed. */
  forget({ id }: Buffer): void {
    for (const made of this.pipelines.values()) {
      for (const { groups } of made.values()) {
        for (const key of groups.keys()) if (`,${key}`.includes(`,${id},`)) groups.delete(key);
      }
    }
  }

  private make(program: Program, operands: Operands, constants: Constants, wide: boolean): Pipeline {
    const bindings = bindingsOf(program, operands, wide);
    const code = shaderText(program, bindings, constants, wide, this.subgroups);
    const layout = this.layout(bindings);
    const module = this.device.createShaderModule({ label: program.name, code });
    const pipeline = this.device.createComputePipeline({
      label: program.name,
      layout: this.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main" },
    });
    return { pipeline, layout, step: wide ? 4 : 1, first: bindings.map(({ names }) => names[0]!), groups: new Map() };
  }

  private layout(bindings: readonly Binding[]): GPUBindGroupLayout {
    const key = bindings.map(({ write }) => Number(write)).join("");
    let layout = this.layouts.get(key);
    if (!layout) {
      const visibility = GPUShaderStage.COMPUTE;
      const parameters = { binding: 0, visibility, buffer: { type: "uniform", hasDynamicOffset: true } } as const;
      const storages = bindings.map(({ write }, i) => ({
        binding: i + 1,
        visibility,
        buffer: { type: write ? ("storage" as const) : ("read-only-storage" as const) },
      }));
      layout = this.device.createBindGroupLayout({ entries: [parameters, ...storages] });
      this.layouts.set(key, layout);
    }
    return layout;
  }
}

/** Operands by the buffer they lie in. Throws DeviceError for one that lies in the heap. */
function bindingsOf(program: Program, operands: Operands, wide: boolean): Binding[] {
  const bindings: { block: unknown; names: string[]; element: string; write: boolean }[] = [];
  for (const [name, { access, narrow }] of Object.entries(program.operands)) {
    const slot = operands[name];
    if (!slot) continue;
    if (!slot.block) {
      throw new DeviceError({
        rule: `${program.name} takes tensors on webgpu`,
        got: `${name} on the CPU`,
        fix: 'Move it with to("webgpu")',
      });
    }
    const element = elementOf(slot.dtype, wide && !narrow);
    let binding = bindings.find(({ block }) => block === slot.block);
    if (!binding) {
      binding = { block: slot.block, names: [], element, write: false };
      bindings.push(binding);
    }
    if (binding.element !== element) throw new Error(`${program.name}: ${name} shares a buffer as another type`);
    binding.names.push(name);
    binding.write ||= access === "write";
  }
  return bindings;
}

/**
 * Whether all operands can be taken four elements at a time: they start at a multiple of four, and where their length is
 * none, what is written beyond it meets the rest of a buffer and not of what it is a part of.
 */
export function fitsFour(program: Pick<Program, "operands">, operands: Operands): boolean {
  for (const name in program.operands) {
    const slot = operands[name];
    if (!slot) continue;
    if (program.operands[name]!.narrow) {
      // A buffer that others take by fours can only be bound so.
      if (sharesBuffer(program, operands, name)) return false;
      continue;
    }
    if (slot.dtype === "float64" || (slot.start ?? 0) % 4 !== 0) return false;
    if (slot.length % 4 !== 0 && slot instanceof DeviceSlot) return false;
  }
  return true;
}

function sharesBuffer(program: Pick<Program, "operands">, operands: Operands, name: string): boolean {
  for (const other in program.operands) {
    if (!program.operands[other]!.narrow && operands[other]?.block === operands[name]!.block) return true;
  }
  return false;
}
