import fc from "fast-check";
import { expect, test } from "vitest";
import { type ConvertOptions, convertTensors } from "./convert_tensors.js";
import type { Framework } from "./frameworks.js";

type Given = Record<string, { shape: number[]; data: Float32Array }>;

let seed = 1;
/** Numbers that are all different, so that no two places can be mistaken. */
const t = (...shape: number[]): Given[string] => ({
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    seed = (seed * 48271) % 2147483647;
    return seed / 2 ** 31;
  }),
});
const zero = { shape: [], data: Float32Array.of(0) };

/** A layer in the names of each dialect, with what must be said of it where tensors do not tell. */
interface Made {
  readonly torch: (path: string) => Given;
  readonly keras: (path: string) => Given;
  readonly flax: (path: string) => Given;
  readonly kinds?: (path: string) => ConvertOptions["kinds"];
}

const slash = (path: string) => path.replaceAll(".", "/");
const few = fc.integer({ min: 1, max: 4 });
const kernel = fc.array(few, { minLength: 1, maxLength: 3 });

/** Random layers; those of one kind, since each test makes its own numbers. */
const layers: fc.Arbitrary<Made> = fc.oneof(
  fc.tuple(few, few, fc.boolean()).map(
    ([i, o, bias]): Made => ({
      torch: (p) => ({ [`${p}.weight`]: t(o, i), ...(bias ? { [`${p}.bias`]: t(o) } : {}) }),
      keras: (p) => ({ [`${slash(p)}/kernel`]: t(i, o), ...(bias ? { [`${slash(p)}/bias`]: t(o) } : {}) }),
      flax: (p) => ({ [`params/${slash(p)}/kernel`]: t(i, o), ...(bias ? { [`params/${slash(p)}/bias`]: t(o) } : {}) }),
      kinds: (p) => ({ [p]: "linear" }),
    }),
  ),
  fc.tuple(few, few, kernel, fc.boolean()).map(
    ([i, o, k, transposed]): Made => ({
      torch: (p) => ({ [`${p}.weight`]: transposed ? t(i, o, ...k) : t(o, i, ...k), [`${p}.bias`]: t(o) }),
      keras: (p) => ({
        [`${slash(p)}/kernel`]: transposed ? t(...k, o, i) : t(...k, i, o),
        [`${slash(p)}/bias`]: t(o),
      }),
      flax: (p) => ({ [`params/${slash(p)}/kernel`]: t(...k, i, o), [`params/${slash(p)}/bias`]: t(o) }),
      kinds: (p) => ({ [p]: transposed ? "convTranspose" : "conv" }),
    }),
  ),
  fc.tuple(few, fc.boolean()).map(
    ([c, running]): Made => ({
      torch: (p) => ({
        ...{ [`${p}.weight`]: t(c), [`${p}.bias`]: t(c) },
        ...(running
          ? { [`${p}.running_mean`]: t(c), [`${p}.running_var`]: t(c), [`${p}.num_batches_tracked`]: zero }
          : {}),
      }),
      keras: (p) => ({
        ...{ [`${slash(p)}/gamma`]: t(c), [`${slash(p)}/beta`]: t(c) },
        ...(running ? { [`${slash(p)}/moving_mean`]: t(c), [`${slash(p)}/moving_variance`]: t(c) } : {}),
      }),
      flax: (p) => ({
        ...{ [`params/${slash(p)}/scale`]: t(c), [`params/${slash(p)}/bias`]: t(c) },
        ...(running ? { [`batch_stats/${slash(p)}/mean`]: t(c), [`batch_stats/${slash(p)}/var`]: t(c) } : {}),
      }),
    }),
  ),
  fc.tuple(few, few).map(
    ([n, d]): Made => ({
      torch: (p) => ({ [`${p}.weight`]: t(n, d) }),
      keras: (p) => ({ [`${slash(p)}/embeddings`]: t(n, d) }),
      flax: (p) => ({ [`params/${slash(p)}/embedding`]: t(n, d) }),
      kinds: (p) => ({ [p]: "embedding" }),
    }),
  ),
  fc.tuple(few, few).map(([h, k]): Made => {
    const e = h * k;
    const heads = (out: string, p: string): Given => ({
      ...Object.fromEntries(
        ["query", "key", "value"].flatMap((m) => [
          [`${p}/${m}/kernel`, t(e, h, k)],
          [`${p}/${m}/bias`, t(h, k)],
        ]),
      ),
      ...{ [`${p}/${out}/kernel`]: t(h, k, e), [`${p}/${out}/bias`]: t(e) },
    });
    return {
      torch: (p) => ({
        ...{ [`${p}.in_proj_weight`]: t(3 * e, e), [`${p}.in_proj_bias`]: t(3 * e) },
        ...{ [`${p}.out_proj.weight`]: t(e, e), [`${p}.out_proj.bias`]: t(e) },
      }),
      keras: (p) => heads("attention_output", slash(p)),
      flax: (p) => heads("out", `params/${slash(p)}`),
      kinds: (p) => ({ [p]: { kind: "attention", heads: h } }),
    };
  }),
  fc.tuple(few, few, kernel).map(
    ([c, m, k]): Made => ({
      torch: (p) => ({ [`${p}.weight`]: t(c * m, 1, ...k) }),
      keras: (p) => ({ [`${slash(p)}/depthwise_kernel`]: t(...k, c, m) }),
      flax: (p) => ({ [`params/${slash(p)}/kernel`]: t(...k, 1, c * m) }),
      kinds: (p) => ({ [p]: { kind: "depthwise", multiplier: m } }),
    }),
  ),
);

const models = fc.array(layers, { minLength: 1, maxLength: 5 });
const dialects = { pytorch: "torch", evenkeel: "torch", keras: "keras", tfjs: "keras", flax: "flax" } as const;
const names = Object.keys(dialects) as Framework[];

test("from any framework to any other and back: the same names, shapes and bits", async () => {
  let [conversions, tensors] = [0, 0];
  const roundTrip = fc.asyncProperty(
    models,
    fc.constantFrom(...names),
    fc.constantFrom(...names),
    async (made, a, b) => {
      const paths = made.map((_, i) => `block.${i}`);
      const given: Given = Object.assign({}, ...made.map((m, i) => m[dialects[a]](paths[i]!)));
      const kinds = Object.assign({}, ...made.map((m, i) => m.kinds?.(paths[i]!) ?? {}));
      const there = await convertTensors(given, { from: a, to: b, kinds });
      const back = await convertTensors(there.tensors, { from: b, to: a, kinds });
      expect([...back.tensors.keys()].sort()).toEqual(Object.keys(given).sort());
      for (const [name, { shape, data }] of back.tensors) {
        expect(shape, name).toEqual(given[name]!.shape);
        expect(Float32Array.from(data), name).toEqual(given[name]!.data);
      }
      conversions += 2;
      tensors += there.tensors.size + back.tensors.size;
    },
  );
  await fc.assert(roundTrip, { numRuns: 400, seed: 20260 });
  console.info(`round trips: ${conversions} conversions, ${tensors} tensors`);
});
