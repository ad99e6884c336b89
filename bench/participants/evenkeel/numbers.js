import { scope } from "../../../dist/index.js";

/**
 * The numbers of the named tensors that `make` gives, on whatever device they are. Reading begins before they are disposed, and
 * a device keeps the order of what it is asked for.
 */
export async function numbersOf(make) {
  const named = Object.entries(scope(make));
  const reading = named.map(async ([name, t]) => [name, await t.data()]);
  for (const [, t] of named) t.dispose();
  return Object.fromEntries(await Promise.all(reading));
}
