import { styleValue } from "./elements.js";
import type { Point, Stroke } from "./preprocess.js";

/** Share of the pad that one press of an arrow key moves the pen. */
const KEY_STEP = 0.04;
const PEN = 0.07;
/** Points closer than this, as a share of the pad, are one. */
const CLOSE = 0.004;

/** A square to draw on with a pointer or with keys. Strokes are in shares of its side. */
export class Pad {
  private strokes: Point[][] = [];
  /** The pointer that draws; others are ignored meanwhile. */
  private pointer: number | null = null;
  private readonly pen = { x: 0.5, y: 0.5, down: false, shown: false };

  private stale = false;
  private readonly canvas: HTMLCanvasElement;

  constructor(
    private readonly area: HTMLElement,
    private readonly changed: (strokes: readonly Stroke[]) => void,
  ) {
    this.canvas = area.querySelector("canvas")!;
    area.tabIndex = 0;
    area.addEventListener("pointerdown", (event) => this.begin(event));
    area.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"] as const) area.addEventListener(end, (event) => this.end(event));
    area.addEventListener("keydown", (event) => this.key(event));
    for (const type of ["focus", "blur"] as const) {
      area.addEventListener(type, () => {
        this.pen.shown = type === "focus" && area.matches(":focus-visible");
        this.pen.down = false;
        this.draw();
      });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.draw();
  }

  set(strokes: readonly Stroke[]): void {
    this.strokes = strokes.map((stroke) => [...stroke]);
    this.pen.down = false;
    this.update();
  }

  clear(): void {
    this.set([]);
  }

  private begin(event: PointerEvent): void {
    if (this.pointer !== null || event.button !== 0) return;
    this.pointer = event.pointerId;
    this.area.setPointerCapture(event.pointerId);
    this.pen.shown = false;
    this.strokes.push([this.at(event)]);
    this.update();
  }

  private move(event: PointerEvent): void {
    if (event.pointerId !== this.pointer) return;
    const stroke = this.strokes.at(-1)!;
    // Between two frames a quick hand leaves several points.
    const events = event.getCoalescedEvents?.() ?? [];
    for (const e of events.length > 0 ? events : [event]) {
      const [to, from] = [this.at(e), stroke.at(-1)!];
      if (Math.hypot(to.x - from.x, to.y - from.y) > CLOSE) stroke.push(to);
    }
    this.update();
  }

  private end(event: PointerEvent): void {
    if (event.pointerId === this.pointer) this.pointer = null;
  }

  private at(event: PointerEvent): Point {
    const { left, top, width, height } = this.area.getBoundingClientRect();
    return { x: (event.clientX - left) / width, y: (event.clientY - top) / height };
  }

  private key(event: KeyboardEvent): void {
    const { pen } = this;
    const moves: Readonly<Record<string, readonly [number, number]>> = {
      ...{ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] },
    };
    const move = moves[event.key];
    if (move) {
      const clamp = (v: number) => Math.min(1, Math.max(0, v));
      pen.x = clamp(pen.x + move[0] * KEY_STEP);
      pen.y = clamp(pen.y + move[1] * KEY_STEP);
      if (pen.down) this.strokes.at(-1)!.push({ x: pen.x, y: pen.y });
    } else if (event.key === " " || event.key === "Enter") {
      pen.down = !pen.down;
      if (pen.down) this.strokes.push([{ x: pen.x, y: pen.y }]);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.strokes = [];
      pen.down = false;
    } else return;
    event.preventDefault();
    pen.shown = true;
    this.update();
  }

  /** At most once a frame, however many events there are in it. */
  private update(): void {
    if (this.stale) return;
    this.stale = true;
    requestAnimationFrame(() => {
      this.stale = false;
      this.draw();
      this.changed(this.strokes);
    });
  }

  private draw(): void {
    const { canvas, pen } = this;
    const context = canvas.getContext("2d")!;
    const size = canvas.width;
    context.clearRect(0, 0, size, size);
    context.lineWidth = PEN * size;
    context.lineCap = "round";
    context.lineJoin = "round";
    context.strokeStyle = styleValue("--ink");
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(stroke[0]!.x * size, stroke[0]!.y * size);
      for (const p of stroke) context.lineTo(p.x * size, p.y * size);
      context.stroke();
    }
    if (!pen.shown) return;
    context.beginPath();
    context.arc(pen.x * size, pen.y * size, PEN * size * 0.7, 0, 2 * Math.PI);
    context.lineWidth = 4;
    context.strokeStyle = styleValue("--focus");
    context.stroke();
    if (!pen.down) return;
    context.fillStyle = styleValue("--focus");
    context.fill();
  }
}

/** Draws an image of 8 x 8 shares of ink, a pixel each. */
export function showImage(canvas: HTMLCanvasElement, image: Float32Array | null): void {
  const context = canvas.getContext("2d")!;
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!image) return;
  context.fillStyle = styleValue("--ink");
  for (const [i, ink] of image.entries()) {
    context.globalAlpha = ink;
    context.fillRect(i % canvas.width, Math.floor(i / canvas.width), 1, 1);
  }
  context.globalAlpha = 1;
}
