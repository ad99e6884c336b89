export function step() {
  throw new Error("not yet");
}
