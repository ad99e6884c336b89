import type { AxesView } from "../../norm/axes_view.js";
import type { ColumnView } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";

/** `body` on x in the order of axes that a view asks for, its result (as large as x) in x's own order again. */
export function overAxes(x: Tensor, { view, order }: AxesView, body: (x: Tensor, view: ColumnView) => Tensor): Tensor {
  if (!order) return body(x, view);
  return body(x.permute(order), view).permute(order.map((_, i) => order.indexOf(i)));
}
