import { StateError } from "../base/errors.js";

/** Something with a lifetime: a tensor, or what the tape holds for a backward pass. */
export interface ScopeMember {
  /** True once a module, an optimizer or a `.grad` owns it: scopes then leave it alone. */
  owned: boolean;
  dispose(): void;
  /** Everything that must live as long as this does (the graph behind a returned loss). */
  dependencies?(visit: (member: ScopeMember) => void): void;
  /** What nobody but this owns, and what goes when it goes (a tensor's gradient). */
  belongings?(visit: (member: ScopeMember) => void): void;
}

let current: ScopeMember[] | null = null;

/** Called by everything with a lifetime when it is made. */
export function track(member: ScopeMember): void {
  current?.push(member);
}

/** Takes a member out of every scope: from now on its owner decides when it goes. */
export function own<T extends ScopeMember>(member: T): T {
  member.owned = true;
  return member;
}

/** Gives an owned member back to the scope that is open now, or to garbage collection when none is. */
export function disown<T extends ScopeMember>(member: T): T {
  member.owned = false;
  current?.push(member);
  return member;
}

/**
 * Runs `body` and disposes every tensor made inside, bar those it returns (alone, or in arrays, plain objects and
 * Maps, with the graph they need for backward) and those that modules and optimizers own. Scopes nest.
 * Throws StateError for an async body: what it makes after its first await would escape.
 */
export function scope<T>(body: () => T): T {
  const outer = current;
  const members: ScopeMember[] = [];
  current = members;
  let result: T;
  try {
    result = body();
    if (typeof (result as { then?: unknown } | null | undefined)?.then === "function") {
      throw new StateError({
        rule: "scope() takes a synchronous function",
        got: "a promise",
        fix: "Put a scope around each synchronous part, and await between scopes",
      });
    }
  } catch (error) {
    current = outer;
    release(members, null);
    throw error;
  }
  current = outer;
  release(members, result);
  return result;
}

function release(members: ScopeMember[], result: unknown): void {
  // Only members of this scope are of interest: what they depend on was made earlier, so nothing older can lead back
  // to a member. A worklist, not recursion: a graph may be deeper than the call stack.
  const leaving = new Set(members);
  const belongings: [ScopeMember, ScopeMember][] = [];
  for (const owner of members) if (!owner.owned) owner.belongings?.((thing) => belongings.push([owner, thing]));
  for (const [, thing] of belongings) leaving.add(thing);
  const kept: ScopeMember[] = [];
  const keep = (member: ScopeMember): void => {
    if (leaving.delete(member)) kept.push(member);
  };
  visitMembers(result, keep);
  for (let i = 0; i < kept.length; i++) kept[i]!.dependencies?.(keep);
  // What outlives its owner, because it was returned alone, is from now on a member like any other.
  for (const [owner, thing] of belongings) if (leaving.has(owner)) thing.owned = false;
  for (const member of leaving) if (!member.owned) member.dispose();
  if (current) for (const member of kept) if (!member.owned) current.push(member);
}

function visitMembers(value: unknown, visit: (member: ScopeMember) => void): void {
  if (value === null || typeof value !== "object") return;
  if ("owned" in value && "dispose" in value) visit(value as ScopeMember);
  else if (Array.isArray(value)) for (const item of value) visitMembers(item, visit);
  else if (value instanceof Map) for (const item of value.values()) visitMembers(item, visit);
  else if (Object.getPrototypeOf(value) === Object.prototype) {
    for (const item of Object.values(value)) visitMembers(item, visit);
  }
}
