// Many tensors in one launch: a table in memory says where each lies, and units are counted through all of them.

/** A row of the table: five places (0 where there is none), the elements at each, and the number of the first unit after it. */
@unmanaged export class Segment { a: f64; b: f64; c: f64; d: f64; e: f64; length: f64; end: f64; }

/** The row that unit u belongs to; the others follow. */
export function segmentOf(table: usize, u: i32): usize {
  let row = table;
  while (<i32>changetype<Segment>(row).end <= u) row += offsetof<Segment>();
  return row;
}

/** The number of a row's first unit. */
// @ts-ignore: decorator
@inline export function firstUnit(table: usize, row: usize): i32 {
  return row == table ? 0 : <i32>changetype<Segment>(row - offsetof<Segment>()).end;
}
