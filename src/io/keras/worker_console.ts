let listener: ((...text: unknown[]) => void) | null = null;

// Before h5wasm is there: it keeps the functions that it finds as it begins.
for (const name of ["log", "warn", "error"] as const) console[name] = (...text: unknown[]) => listener?.(...text);

/** Hands over what is printed in this worker, which is what h5wasm prints. */
export const hear = (listen: (...text: unknown[]) => void): void => {
  listener = listen;
};
