import { expect, test } from "vitest";
import { heap } from "./heap.js";
import { disown, own, type ScopeMember, scope, track } from "./scope.js";
import { Storage } from "./storage.js";

class Thing implements ScopeMember {
  owned = false;
  mark = 0;
  disposed = false;
  /** How often it was told that no scope will dispose it. */
  left = 0;
  constructor(readonly needs: Thing[] = []) {
    track(this);
  }
  dispose(): void {
    this.disposed = true;
  }
  leaveScopes(): void {
    this.left++;
  }
  dependencies(visit: (member: ScopeMember) => void): void {
    for (const thing of this.needs) visit(thing);
  }
}

test("a scope disposes what it does not return, own or need for what it returns", () => {
  let lost!: Thing;
  let owned!: Thing;
  let behind!: Thing;
  const { kept, list, map } = scope(() => {
    lost = new Thing();
    owned = own(new Thing());
    behind = new Thing();
    const direct = new Thing([behind]);
    return { kept: direct, list: [new Thing()], map: new Map([["a", new Thing()]]) };
  });
  expect(lost.disposed).toBe(true);
  expect([owned, behind, kept, list[0]!, map.get("a")!].map((t) => t.disposed)).toEqual([
    false,
    false,
    false,
    false,
    false,
  ]);
});

test("what an inner scope returns belongs to the outer one", () => {
  let inner!: Thing;
  scope(() => {
    inner = scope(() => new Thing());
    expect(inner.disposed).toBe(false);
  });
  expect(inner.disposed).toBe(true);
});

test("an error disposes everything and passes", () => {
  let thing!: Thing;
  expect(() =>
    scope(() => {
      thing = new Thing();
      throw new Error("inside");
    }),
  ).toThrow("inside");
  expect(thing.disposed).toBe(true);
  const after = new Thing();
  expect(after.disposed).toBe(false);
});

test("what no scope will dispose any more is told so, once its last scope has ended", () => {
  expect(new Thing().left).toBe(1);
  const [inner, owned] = scope(() => {
    const things = scope(() => [new Thing(), own(new Thing())]);
    // The owned one has left all scopes; the other is in this one now.
    expect(things.map((t) => t.left)).toEqual([0, 1]);
    return things;
  });
  expect([inner!.left, owned!.left]).toEqual([1, 1]);
  expect(disown(own(new Thing())).left).toBe(2);
});

test("an async body is refused", () => {
  expect(() => scope(async () => 1)).toThrow(/synchronous/);
});

test("a chain far deeper than the call stack is kept", () => {
  const last = scope(() => {
    let thing = new Thing();
    for (let i = 0; i < 50_000; i++) thing = new Thing([thing]);
    return thing;
  });
  let depth = 0;
  for (let t: Thing | undefined = last; t; t = t.needs[0]) if (!t.disposed) depth++;
  expect(depth).toBe(50_001);
});

test("storage returns to the heap with its last holder", () => {
  const before = heap.stats.liveBytes;
  const s = new Storage(1000, "float32");
  s.retain();
  s.release();
  expect(heap.stats.liveBytes).toBe(before + 4032);
  s.release();
  expect(heap.stats.liveBytes).toBe(before);
  expect(() => s.view).toThrow(/released/);
});

test("the heap grows, keeps its contents, and says what is wrong at its limit", () => {
  const s = new Storage(10, "float32");
  s.view.fill(7);
  const big = new Storage(20_000_000, "float32");
  big.view[19_999_999] = 1;
  expect([...s.view]).toEqual(new Array(10).fill(7));
  big.release();
  const alive = [new Storage(3 << 20, "float32"), new Storage(3 << 20, "float32"), new Storage(1 << 20, "float32")];
  expect(() => new Storage(600_000_000, "float64")).toThrow(
    /holds at most .* MiB; got a request for 4577\.6 MiB with 28\.0 MiB in 4 blocks \(2 x 12\.0 MiB, 1 x 4\.0 MiB, 1 x 0\.0 MiB\) alive/,
  );
  for (const t of alive) t.release();
  s.release();
});
