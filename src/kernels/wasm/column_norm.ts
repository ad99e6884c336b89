import { DTypeError, UnsupportedKernel } from "../../base/errors.js";
import { heap, type Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { ColumnView } from "../../norm/views.js";
import type { KernelSet, NormActivation, NormActivationGrad, NormGrads, Stats } from "../kernel_set.js";
import { columnNorm as reference } from "../reference/column_norm.js";
import { kernelArgs, run as launchKernel, scratchPlaces } from "../threads/pool.js";
import { activationCode } from "./activation.js";
import { type ColumnPlan, planApply, planOf, planPart } from "./column_plan.js";
import { float32Only } from "./float32_only.js";
import { kernelIndex } from "./module.js";
import { affineSums, fewAffine, onlyDx } from "./norm_affine.js";

const kernels = {
  affine_grad: kernelIndex("column_norm_affine_grad"),
  constants: kernelIndex("column_norm_constants"),
  grad_constants: kernelIndex("column_norm_grad_constants"),
  merge: kernelIndex("column_norm_merge"),
  merge_sums: kernelIndex("column_norm_merge_sums"),
  run_apply: kernelIndex("column_norm_run_apply"),
  run_dx: kernelIndex("column_norm_run_dx"),
  run_moments: kernelIndex("column_norm_run_moments"),
  run_sums: kernelIndex("column_norm_run_sums"),
  runs: kernelIndex("column_norm_runs"),
  runs_grad: kernelIndex("column_norm_runs_grad"),
  tile_apply: kernelIndex("column_norm_tile_apply"),
  tile_dx: kernelIndex("column_norm_tile_dx"),
  tile_moments: kernelIndex("column_norm_tile_moments"),
  tile_sums: kernelIndex("column_norm_tile_sums"),
  tiles: kernelIndex("column_norm_tiles"),
  tiles_grad: kernelIndex("column_norm_tiles_grad"),
};

const ptr = (slot: Slot | null | undefined): number => (slot ? slot.ptr : 0);

/** Bytes, up to a whole number of cache lines. */
const lines = (bytes: number): number => Math.ceil(bytes / 64) * 64;

interface Operands {
  readonly x: Slot;
  readonly dy?: Slot;
  /** Where y or dx goes; null when only sums are wanted. */
  readonly y: Slot | null;
  readonly weight: Slot | null;
  readonly bias?: Slot | null;
  readonly stats: Stats;
  readonly eps: number;
  readonly out?: NormGrads;
  readonly frozen?: boolean;
  /** Where sums go, or come from; scratch memory unless given. */
  readonly sums?: Slot;
  readonly counts?: Slot;
  readonly activation?: NormActivation | null | undefined;
  /** Where the gradient to what goes into the activation comes to lie. */
  readonly dz?: Slot | null;
}

/** Bytes of the constants of four columns; see assembly/lib_column_sheet.ts. */
const TABLE_STEP = 48;
const GRAD_TABLE_STEP = 80;
/** Bytes that column_norm_groups.ts keeps for each channel of a unit, at most. */
const GROUP_SCRATCH = 48;

/**
 * One call: the argument block (class Sheet in assembly/lib_column_sheet.ts), which all its launches read, and the
 * scratch memory behind it.
 */
class Call {
  private readonly block: number;
  readonly elements: number;

  constructor(
    readonly view: ColumnView,
    readonly plan: ColumnPlan,
    private readonly o: Operands,
  ) {
    const { batch, outer, channels, inner, merge } = view;
    this.elements = batch * outer * channels * inner;
    const threads = scratchPlaces();
    // A fused unit needs parts and constants only while it runs, so a thread has them once.
    const slots = plan.fused ? threads : batch;
    const needsParts = plan.tiles || !plan.fused;
    // A stride that is an odd number of cache lines keeps the blocks of a column in different sets of the cache.
    const partStride = Math.ceil(plan.width / 16) * 16 + 8;
    const partPlane = needsParts ? slots * plan.rowBlocks * plan.runBlocks * partStride : 0;
    const tableStep = o.dy ? GRAD_TABLE_STEP : TABLE_STEP;
    const tableEntry = Math.ceil(plan.width / 4) * tableStep;
    const tableBytes = needsParts || o.frozen ? slots * tableEntry : 0;
    const sumsPlane = o.dy && !o.sums ? batch * channels : 0;
    const scratchBytes = lines(
      96 + (plan.tiles ? 12 * (plan.blockWidth + 4) : GROUP_SCRATCH * plan.unitGroups * merge),
    );
    const table = 16 * partPlane;
    const sums = table + lines(tableBytes);
    const scratch = sums + lines(16 * sumsPlane);
    this.block = heap.allocate(scratch + threads * scratchBytes);
    const at = heap.address(this.block);
    const a = kernelArgs();
    a[0] = o.x.ptr;
    a[1] = ptr(o.dy);
    a[2] = ptr(o.y);
    a[3] = ptr(o.weight);
    a[4] = ptr(o.bias);
    a[5] = o.stats.mean.ptr;
    a[6] = o.stats.variance.ptr;
    a[7] = o.stats.mean.dtype === "float32" ? 1 : 0;
    a[8] = o.eps;
    a[9] = batch;
    a[10] = channels;
    a[11] = merge;
    a[12] = outer * merge * inner;
    a[13] = plan.rows;
    a[14] = plan.width;
    a[15] = plan.run;
    a[16] = plan.span;
    a[17] = plan.restWidth;
    a[18] = plan.blockRows;
    a[19] = plan.rowBlocks;
    a[20] = plan.blockRun;
    a[21] = plan.runBlocks;
    a[22] = plan.blockWidth;
    a[23] = at;
    a[24] = partStride;
    a[25] = partPlane;
    a[26] = at + table;
    a[27] = tableStep;
    a[28] = tableEntry;
    a[29] = o.sums?.ptr ?? at + sums;
    a[30] = ptr(o.out?.dWeight);
    a[31] = ptr(o.out?.dBias);
    a[32] = o.frozen ? 1 : 0;
    a[33] = at + scratch;
    a[34] = scratchBytes;
    a[35] = ptr(o.counts);
    a[36] = activationCode(o.activation);
    a[37] = o.activation ? o.activation.alpha : 0;
    a[38] = ptr(o.dz ?? o.dy);
    a[40] = plan.unitGroups;
    a[39] = plan.together ? 1 : 0;
  }

  /** Units of the kernels between the passes, which take four groups at a time. */
  get mergeUnits(): number {
    const { batch, channels, merge } = this.view;
    return batch * Math.ceil(channels / merge / 4);
  }

  get groups(): number {
    return (this.view.batch * this.view.channels) / this.view.merge;
  }

  /** Units of the kernels that take whole groups. */
  get groupUnits(): number {
    const { batch, channels, merge } = this.view;
    return batch * Math.ceil(channels / merge / this.plan.unitGroups);
  }

  get allChannels(): number {
    return this.view.batch * this.view.channels;
  }

  get blocks(): number {
    return this.plan.rowBlocks * this.plan.runBlocks;
  }

  /** Units of a kernel that goes through tiles. */
  get tiles(): number {
    return this.view.batch * this.plan.rowBlocks * Math.ceil(this.plan.width / this.plan.blockWidth);
  }

  /** Units of a kernel that goes through parts of runs in the order of memory. */
  get runs(): number {
    return this.allChannels * this.plan.rows * this.plan.runBlocks;
  }

  launch(kernel: keyof typeof kernels, units: number, work = this.elements): void {
    launchKernel(kernels[kernel], units, work);
  }

  /** Moments of columns and blocks, and from them the statistics and the constants of y, if there is one. */
  moments(): void {
    if (this.plan.tiles) this.launch("tile_moments", this.tiles);
    else this.launch("run_moments", this.allChannels * this.blocks);
    this.launch("merge", this.mergeUnits, mergeWork(this));
  }

  /** Sums of columns and blocks, and of channels from them; with a place for dx its constants too. */
  addUp(): void {
    if (this.plan.tiles) {
      if (this.o.activation) this.constants();
      this.launch("tile_sums", this.tiles);
    } else {
      this.launch("run_sums", this.allChannels * this.blocks);
    }
    this.launch("merge_sums", this.mergeUnits, mergeWork(this));
  }

  /** Constants of y from given statistics, or of dx where those are constants. */
  constants(): void {
    const { batch, channels } = this.view;
    this.launch("constants", batch * Math.ceil(channels / 4), 8 * batch * channels);
  }

  dx(): void {
    if (this.plan.tiles) this.launch("tile_dx", this.tiles);
    else this.launch("run_dx", this.runs);
  }

  /** A pass from what lies in x to what lies in y with the constants of each channel. */
  apply(): void {
    if (this.plan.tiles) this.launch("tile_apply", this.tiles);
    else this.launch("run_apply", this.runs);
  }

  release(): void {
    heap.free(this.block);
  }
}

function checkTypes(kernel: string, stats: Stats, a: Slot, b?: Slot, c?: Slot | null, d?: Slot | null): void {
  float32Only(kernel, a, b, c, d);
  const { mean, variance } = stats;
  if (mean.dtype !== variance.dtype || mean.dtype === "int32") {
    throw new DTypeError({
      rule: "Mean and variance have one floating type",
      got: `${mean.dtype} and ${variance.dtype}`,
    });
  }
}

function run(view: ColumnView, plan: ColumnPlan, operands: Operands, body: (call: Call) => void): void {
  const call = new Call(view, plan, operands);
  try {
    body(call);
  } finally {
    call.release();
  }
}

/** Work of a pass over the partial sums, several float64 operations each. */
const mergeWork = ({ view, plan, blocks }: Call): number => 4 * view.batch * plan.width * blocks;

/**
 * Below four elements to a statistic dx is what is left of nearly equal numbers (for two it is 0 but for eps), which
 * neither float32 nor statistics from float32 sums can hold; the double loops of reference take those, and empty slots.
 */
const few = ({ outer, merge, inner }: ColumnView): boolean => outer * merge * inner < 4;

function float64Only(kernel: string, ...slots: Slot[]): void {
  const other = slots.find((slot) => slot.dtype !== "float64");
  if (other) {
    throw new UnsupportedKernel({
      rule: `${kernel} has a WASM kernel for statistics, sums and counts in float64 only`,
      got: other.dtype,
      fix: "The reference kernel takes it",
    });
  }
}

type Kernels = Pick<
  KernelSet,
  "columnNorm" | "columnNormEval" | "columnNormGrad" | "columnMoments" | "columnSums" | "columnDx"
>;

export const columnNorm: Kernels = {
  columnNorm(x, weight, bias, y, stats, view, eps, activation) {
    checkTypes("columnNorm", stats, x, y, weight, bias);
    if (stats.mean.dtype !== "float64") {
      throw new UnsupportedKernel({
        rule: "columnNorm writes float64 statistics in its WASM kernel",
        got: stats.mean.dtype,
        fix: "The reference kernel takes it",
      });
    }
    if (x.length === 0 || few(view)) return reference.columnNorm(x, weight, bias, y, stats, view, eps, activation);
    run(view, planOf(view), { x, y, weight, bias, stats, eps, activation }, (call) => {
      const { plan } = call;
      if (plan.fused) {
        if (plan.tiles) call.launch("tiles", view.batch);
        else call.launch("runs", call.groupUnits);
        return;
      }
      call.moments();
      call.apply();
    });
  },

  columnNormEval(x, weight, bias, y, stats, view, eps, activation) {
    checkTypes("columnNormEval", stats, x, y, weight, bias);
    if (x.length === 0) return;
    run(view, planApply(view), { x, y, weight, bias, stats, eps, activation }, (call) => {
      call.constants();
      call.apply();
    });
  },

  columnNormGrad(x, dy, weight, stats, out, view, eps, frozen, activation) {
    checkTypes("columnNormGrad", stats, x, dy, weight, activation?.bias);
    float32Only("columnNormGrad", out.dx, out.dWeight, out.dBias);
    if (x.length === 0 || (!frozen && few(view))) {
      return reference.columnNormGrad(x, dy, weight, stats, out, view, eps, frozen, activation);
    }
    if (!activation) {
      gradients(x, dy, weight, stats, out, view, eps, frozen);
      return;
    }
    // dz lies in dx, which is not needed before; where nobody asks for dx, it takes the memory that dx would have.
    const own = out.dx ? null : new Storage(x.length, "float32");
    gradients(x, dy, weight, stats, out, view, eps, frozen, { ...activation, dz: out.dx ?? own! });
    own?.release();
  },

  columnMoments(x, stats, view) {
    checkTypes("columnMoments", stats, x);
    float64Only("columnMoments", stats.mean);
    if (x.length === 0 || few(view)) return reference.columnMoments(x, stats, view);
    run(view, planPart(view), { x, y: null, weight: null, stats, eps: 0 }, (call) => call.moments());
  },

  columnSums(x, dy, stats, sums, view) {
    checkTypes("columnSums", stats, x, dy);
    float64Only("columnSums", stats.mean, sums);
    if (x.length === 0) return reference.columnSums(x, dy, stats, sums, view);
    run(view, planPart(view), { x, dy, y: null, weight: null, stats, eps: 0, sums }, (call) => call.addUp());
  },

  columnDx(x, dy, weight, stats, sums, counts, dx, view, eps) {
    checkTypes("columnDx", stats, x, dy, weight, dx);
    float64Only("columnDx", stats.mean, sums, counts);
    if (x.length === 0) return;
    if (few(view)) return reference.columnDx(x, dy, weight, stats, sums, counts, dx, view, eps);
    run(view, planPart(view), { x, dy, y: dx, weight, stats, eps, sums, counts }, (call) => {
      call.launch("grad_constants", call.groups, 8 * call.allChannels);
      call.dx();
    });
  },
};

/** The gradients to x, weight and bias from dy; with `through`, from dz, which is written on the way. */
function gradients(
  x: Slot,
  dy: Slot,
  weight: Slot | null,
  stats: Stats,
  out: NormGrads,
  view: ColumnView,
  eps: number,
  frozen: boolean,
  through?: NormActivationGrad & { readonly dz: Slot },
): void {
  const dz = through ? through.dz : dy;
  const bias = through ? through.bias : null;
  if (fewAffine(view.channels, out)) {
    const { outer, channels, inner, merge, batch } = view;
    if (through) {
      const operands = { x, dy, y: null, weight, bias, stats, eps, activation: through, dz };
      run(view, planPart(view), operands, (call) => call.addUp());
    }
    affineSums(x, dz, stats, out, eps, { planes: batch * outer, outer, inner, affine: channels, merge });
    if (out.dx) gradients(x, dz, weight, stats, onlyDx(out), view, eps, frozen);
    return;
  }
  const affine = out.dWeight !== null || out.dBias !== null;
  if (!frozen || affine || through) {
    const y = frozen ? null : out.dx;
    run(view, planOf(view), { x, dy, y, weight, bias, stats, eps, out, frozen, activation: through, dz }, (call) => {
      const { plan } = call;
      if (plan.fused) {
        if (plan.tiles) call.launch("tiles_grad", view.batch);
        else call.launch("runs_grad", call.groupUnits);
      } else {
        call.addUp();
        if (out.dx && !frozen) call.dx();
      }
      if (affine && view.batch > 1) call.launch("affine_grad", view.channels, 4 * call.allChannels);
    });
  }
  if (!frozen || !out.dx) return;
  // Last, since dx may lie where dy does.
  run(view, planApply(view), { x: dz, y: out.dx, weight, stats, eps, frozen }, (call) => {
    call.constants();
    call.apply();
  });
}
