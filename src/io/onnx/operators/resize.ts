import { type Tensor, tensor } from "../../../autograd/index.js";
import { ShapeError } from "../../../base/errors.js";
import { formatShape, normalizeAxis, numberOfElements } from "../../../base/shape.js";
import { type Attributes, float, int, ints, text } from "../attributes.js";
import { type Call, oneOf } from "../call.js";
import type { OperatorTable } from "../operator.js";
import { checkRoom, numbersIn, take } from "../value.js";

/** One axis: its length before and after, and the factor between them, which need not be their quotient. */
interface Axis {
  readonly from: number;
  readonly to: number;
  readonly scale: number;
}

const halfPixel = (i: number, { scale }: Axis): number => (i + 0.5) / scale - 0.5;

/** Where element i of the result lies in the input. */
const coordinates = {
  half_pixel: halfPixel,
  pytorch_half_pixel: (i: number, axis: Axis): number => (axis.to > 1 ? halfPixel(i, axis) : 0),
  half_pixel_symmetric: (i: number, axis: Axis): number =>
    (axis.from / 2) * (1 - axis.to / (axis.scale * axis.from)) + halfPixel(i, axis),
  align_corners: (i: number, { from, to }: Axis): number => (to > 1 ? (i * (from - 1)) / (to - 1) : 0),
  asymmetric: (i: number, { scale }: Axis): number => i / scale,
  tf_half_pixel_for_nn: (i: number, { scale }: Axis): number => (i + 0.5) / scale,
} as const;
type Mode = keyof typeof coordinates;
const modes = Object.keys(coordinates) as Mode[];

const roundings = {
  round_prefer_floor: (v: number): number => Math.ceil(v - 0.5),
  round_prefer_ceil: (v: number): number => Math.floor(v + 0.5),
  floor: Math.floor,
  ceil: Math.ceil,
} as const;
type Rounding = keyof typeof roundings;

interface Plan {
  readonly linear: boolean;
  readonly place: (i: number, axis: Axis) => number;
  readonly round: (v: number) => number;
}

const within = (i: number, length: number): number => Math.min(length - 1, Math.max(0, i));

/** x with one axis read at other places, whole ones or between two. */
function alongAxis(x: Tensor, at: number, axis: Axis, { linear, place, round }: Plan): Tensor {
  const shape = x.shape.map((d, i) => (i === at ? axis.to : d));
  checkRoom(shape);
  const outer = numberOfElements(x.shape.slice(0, at));
  const inner = numberOfElements(x.shape.slice(at + 1));
  const pick = (index: (i: number) => number): Tensor => {
    const rows = new Int32Array(outer * axis.to);
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < axis.to; i++) rows[o * axis.to + i] = o * axis.from + within(index(i), axis.from);
    }
    return take(x, rows, shape, inner) as Tensor;
  };
  if (!linear) return pick((i) => round(place(i, axis)));
  const places = Float64Array.from({ length: axis.to }, (_, i) => within(place(i, axis), axis.from));
  const share = tensor(
    places.map((p) => p - Math.floor(p)),
    { shape: [axis.to, ...x.shape.slice(at + 1).map(() => 1)], dtype: x.dtype === "float64" ? "float64" : "float32" },
  );
  const [low, high] = [pick((i) => Math.floor(places[i]!)), pick((i) => Math.floor(places[i]!) + 1)];
  return low.mul(share.neg().add(1)).add(high.mul(share));
}

/** The axes of a node, from scales or from sizes. */
function axesOf(call: Call, x: Tensor, scalesAt: number, sizesAt: number): Map<number, Axis> {
  const named = call.ints("axes")?.map((a) => normalizeAxis(a, x.rank)) ?? [...x.shape.keys()];
  const given = (i: number): number[] | null => {
    const list = call.has(i) ? Array.from(numbersIn(call.value(i))) : [];
    return list.length > 0 ? list : null;
  };
  const [scales, sizes] = [given(scalesAt), given(sizesAt)];
  const list = scales ?? sizes;
  const sound = list?.every((v) => Number.isFinite(v) && v > 0) && list.length === named.length;
  if (!list || !sound || (scales && sizes) || new Set(named).size !== named.length) {
    const rule = `Resizing takes scales or sizes above 0, one for each of ${named.length} axes`;
    throw new ShapeError({ rule, got: `scales ${scales ?? "none"}, sizes ${sizes ?? "none"}` });
  }
  const lengths = named.map((a) => x.shape[a]!);
  if (scales) {
    return new Map(
      named.map((a, i) => [a, { from: lengths[i]!, to: Math.floor(lengths[i]! * list[i]!), scale: list[i]! }]),
    );
  }
  const policy = call.attribute<string>("keep_aspect_ratio_policy") ?? "stretch";
  const ratios = list.map((v, i) => v / lengths[i]!);
  if (oneOf("keep_aspect_ratio_policy", policy, ["stretch", "not_larger", "not_smaller"]) === "stretch") {
    return new Map(named.map((a, i) => [a, { from: lengths[i]!, to: list[i]!, scale: ratios[i]! }]));
  }
  const scale = policy === "not_larger" ? Math.min(...ratios) : Math.max(...ratios);
  return new Map(named.map((a, i) => [a, { from: lengths[i]!, to: Math.floor(lengths[i]! * scale + 0.5), scale }]));
}

function resized(call: Call, plan: Plan, axes: ReadonlyMap<number, Axis>): Tensor {
  let x = call.tensor(0);
  if (x.size === 0) throw new ShapeError({ rule: "Resizing takes elements that are there", got: formatShape(x.shape) });
  for (const [at, axis] of axes) {
    if (axis.from !== axis.to || axis.scale !== 1) x = alongAxis(x, at, axis, plan);
  }
  return x;
}

/** Of opset 10 and before: both kinds of resizing read at i / scale. */
function simple(call: Call): Tensor {
  const linear = oneOf("mode", call.text("mode"), ["nearest", "linear"]) === "linear";
  const plan = { linear, place: coordinates.asymmetric, round: Math.floor };
  return resized(call, plan, axesOf(call, call.tensor(0), 1, -1));
}

function resize(call: Call): Tensor {
  const linear = oneOf("mode", call.text("mode"), ["nearest", "linear"]) === "linear";
  const mode = oneOf("coordinate_transformation_mode", call.text("coordinate_transformation_mode"), modes);
  const round = oneOf("nearest_mode", call.text("nearest_mode"), Object.keys(roundings) as Rounding[]);
  const plan = { linear, place: coordinates[mode], round: roundings[round] };
  return resized(call, plan, axesOf(call, call.tensor(0), 2, 3));
}

const lacks = (attributes: Attributes): string | null => {
  if (attributes.get("mode") === "cubic") return 'mode "cubic"';
  if (attributes.get("antialias") === 1) return "antialias";
  const mode = attributes.get("coordinate_transformation_mode");
  return mode === "tf_crop_and_resize" ? JSON.stringify(mode) : null;
};

const mode = { mode: text("nearest") };

export const resizeOperators: OperatorTable = {
  Upsample: { since: 9, until: 10, inputs: [2, 2], attributes: mode, run: simple },
  Resize: [
    { since: 10, inputs: [2, 2], attributes: mode, run: simple },
    {
      since: 11,
      inputs: [1, 4],
      attributes: {
        ...mode,
        coordinate_transformation_mode: text("half_pixel"),
        nearest_mode: text("round_prefer_floor"),
        // These three are of cubic resizing and of what reads beyond the border.
        ...{ cubic_coeff_a: float(-0.75), exclude_outside: int(0), extrapolation_value: float(0) },
        antialias: { ...int(0), since: 18 },
        axes: { ...ints(), since: 18 },
        keep_aspect_ratio_policy: { ...text("stretch"), since: 18 },
      },
      lacks,
      run: resize,
    },
  ],
};
