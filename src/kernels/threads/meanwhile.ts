/** What goes on while kernels compute: messages between ranks, say, which move only when somebody asks for them. */

const bodies = new Set<() => void>();
let inside = false;
let failure: { error: unknown } | null = null;

/** Whether there is anything to do between the pieces of a kernel. */
export const isWatched = (): boolean => bodies.size > 0 && !inside;

/** Whether kernels that are asked for now run between the pieces of another, whose arguments and threads are not theirs. */
export const isMeanwhile = (): boolean => inside;

/**
 * Has `body` called between the pieces of long kernels, on the thread that asked for them, until what is returned is called. Kernels
 * that it runs use one thread.
 */
export function meanwhile(body: () => void): () => void {
  bodies.add(body);
  return () => bodies.delete(body);
}

/** Calls them all. What one throws waits for the end of the kernel: threads that are at work cannot be called back. */
export function doMeanwhile(): void {
  inside = true;
  try {
    for (const body of bodies) body();
  } catch (error) {
    failure ??= { error };
    bodies.clear();
  } finally {
    inside = false;
  }
}

/** Throws what was thrown meanwhile. */
export function throwFailure(): void {
  if (failure === null) return;
  const { error } = failure;
  failure = null;
  throw error;
}
