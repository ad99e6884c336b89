import { StateError } from "../base/errors.js";

/** Something with a lifetime: a tensor, or what the tape holds for a backward pass. */
export interface ScopeMember {
  /** True once a module, an optimizer or a `.grad` owns it: scopes then leave it alone. */
  owned: boolean;
  /** A number of the scopes' own, by which a scope that ends tells its members from others. */
  mark: number;
  dispose(): void;
  /** No scope will dispose it any more: from now on its owner does, or else garbage collection. */
  leaveScopes(): void;
  /** Everything that must live as long as this does (the graph behind a returned loss). */
  dependencies?(visit: (member: ScopeMember) => void): void;
  /** What nobody but this owns, and what goes when it goes (a tensor's gradient). */
  belongings?(): ScopeMember | null;
}

/** Members of all open scopes, those of the innermost one last: an op opens a scope, so that an array each would be dear. */
const members: ScopeMember[] = [];
/** Where the innermost scope begins in `members`; -1 when none is open. */
let start = -1;
let marks = 0;

/** Called by everything with a lifetime when it is made. */
export function track(member: ScopeMember): void {
  if (start >= 0) members.push(member);
  else member.leaveScopes();
}

/** Takes a member out of every scope: from now on its owner decides when it goes. */
export function own<T extends ScopeMember>(member: T): T {
  member.owned = true;
  return member;
}

/** Gives an owned member back to the scope that is open now, or to garbage collection when none is. */
export function disown<T extends ScopeMember>(member: T): T {
  member.owned = false;
  track(member);
  return member;
}

/** Opens a scope without a function around it. What it returns must reach `closeScope`, whatever is thrown. */
export function openScope(): number {
  const outer = start;
  start = members.length;
  return outer;
}

/** Ends the innermost scope; `outer` is what `openScope` returned, `result` and `more` what may leave with its graph. */
export function closeScope(outer: number, result: unknown, more: unknown = null): void {
  const from = start;
  start = outer;
  release(from, result, more);
}

/**
 * Runs `body` and disposes every tensor made inside, bar those it returns (alone, or in arrays, plain objects and
 * Maps, with the graph they need for backward) and those that modules and optimizers own. Scopes nest.
 * Throws StateError for an async body: what it makes after its first await would escape.
 */
export function scope<T>(body: () => T): T {
  const outer = openScope();
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
    closeScope(outer, null);
    throw error;
  }
  closeScope(outer, result);
  return result;
}

/** What leaves the scope that is ending, in the order it was found. Empty between releases. */
const kept: ScopeMember[] = [];
let leaving = 0;

function keep(member: ScopeMember): void {
  if (member.mark !== leaving) return;
  member.mark = 0;
  kept.push(member);
}

function release(from: number, result: unknown, more: unknown): void {
  // Only members of this scope are of interest: what they depend on was made earlier, so nothing older can lead back
  // to a member. A worklist, not recursion: a graph may be deeper than the call stack.
  const mark = ++marks;
  leaving = mark;
  const end = members.length;
  let belongings: [ScopeMember, ScopeMember][] | null = null;
  for (let i = from; i < end; i++) members[i]!.mark = mark;
  for (let i = from; i < end; i++) {
    const owner = members[i]!;
    const thing = owner.owned ? null : owner.belongings?.();
    if (!thing) continue;
    thing.mark = mark;
    belongings ??= [];
    belongings.push([owner, thing]);
  }
  if (result !== null) visitMembers(result, keep);
  if (more !== null) visitMembers(more, keep);
  for (let i = 0; i < kept.length; i++) kept[i]!.dependencies?.(keep);
  if (belongings) {
    for (const [owner, thing] of belongings) {
      if (owner.mark !== mark) continue;
      // It goes with its owner; what was returned alone, and so outlives it, is from now on a member like any other.
      thing.owned = false;
      if (thing.mark === mark) members.push(thing);
    }
  }
  for (let i = from; i < members.length; i++) {
    const member = members[i]!;
    if (member.mark !== mark) continue;
    if (member.owned) member.leaveScopes();
    else member.dispose();
  }
  while (members.length > from) members.pop();
  for (const member of kept) {
    if (start >= 0 && !member.owned) members.push(member);
    else member.leaveScopes();
  }
  kept.length = 0;
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
