export function pack() {}
