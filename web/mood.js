// The sentiment line: how the customer felt over the call, as SVG.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 64;
const EDGE = 8;
const SHORTEST = 60_000;

/** Draws the points `{time, polarity, objections}` of a call that has run for `length` ms. */
export function draw(svg, points, length, describe) {
  const width = Math.max(1, svg.clientWidth);
  const longest = Math.max(SHORTEST, length, points.at(-1)?.time ?? 0);
  const x = (time) => EDGE + (time / longest) * (width - 2 * EDGE);
  const y = (polarity) => HEIGHT / 2 - polarity * (HEIGHT / 2 - EDGE);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const line = points.map((point) => [x(point.time), y(point.polarity)]);
  svg.replaceChildren(
    shape("path", { class: "zero", d: `M0 ${HEIGHT / 2}H${width}` }),
    ...(line.length > 1 ? stretch(line) : []),
    ...points.flatMap((point, index) => marks(point, line[index], index === points.length - 1, describe)),
  );
}

function stretch(line) {
  const d = curve(line);
  const zero = HEIGHT / 2;
  const area = `${d}L${line.at(-1)[0].toFixed(1)} ${zero}L${line[0][0].toFixed(1)} ${zero}Z`;
  return [shape("path", { class: "area", d: area }), shape("path", { class: "line", d })];
}

function marks(point, [cx, cy], last, describe) {
  const found = [];
  if (point.objections.length > 0) {
    const dot = shape("circle", { class: "objection", cx, cy, r: 4 });
    const title = shape("title", {});
    title.textContent = describe(point);
    dot.append(title);
    found.push(dot);
  }
  if (last) found.push(shape("circle", { class: "now", cx, cy, r: 5 }));
  return found;
}

/** A smooth curve through the points that never overshoots them. */
function curve(points) {
  let path = `M${points[0][0].toFixed(1)} ${points[0][1].toFixed(1)}`;
  for (let i = 1; i < points.length; i += 1) {
    const [[x0, y0], [x1, y1]] = [points[i - 1], points[i]];
    const middle = ((x0 + x1) / 2).toFixed(1);
    path += `C${middle} ${y0.toFixed(1)} ${middle} ${y1.toFixed(1)} ${x1.toFixed(1)} ${y1.toFixed(1)}`;
  }
  return path;
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
