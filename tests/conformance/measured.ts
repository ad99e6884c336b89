/** How far a case was off, for the table that `npm run conformance:table` prints. */
export interface Measured {
  readonly kind: "kernel" | "op" | "layer";
  readonly family: string;
  readonly name: string;
  readonly on: "wasm" | "webgpu";
  /** max|y - want| / max|want|, the largest of all outputs. */
  readonly error: number;
  /** Why it does not run there. */
  readonly refused?: string;
}

declare module "vitest" {
  interface TaskMeta {
    measured?: Measured;
  }
}

export const measured = (of: Omit<Measured, "error">, errors: readonly number[]): Measured => ({
  ...of,
  error: Math.max(0, ...errors),
});
