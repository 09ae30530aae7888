// Convex polygons, as what half-planes leave of a rectangle.

/**
 * Cut a convex polygon by half-planes.
 *
 * @param {number[][]} corners [x, y] of each corner, in order
 * @param {{direction: ArrayLike<number>, most: number}[]} halfPlanes where direction · z <= most
 * @returns {number[][]} corners, in the same sense of rotation. A cut that leaves nothing, which
 *   only rounding does to a polygon that holds a common point, is left out.
 */
export function clip(corners, halfPlanes) {
  for (const { direction, most } of halfPlanes) {
    const beyond = corners.map(([x, y]) => direction[0] * x + direction[1] * y - most);
    const kept = corners.flatMap((corner, i) => {
      const next = (i + 1) % corners.length;
      const crosses = beyond[i] < 0 ? beyond[next] > 0 : beyond[i] > 0 && beyond[next] < 0;
      const point = crosses ? [between(corner, corners[next], beyond[i], beyond[next])] : [];
      return beyond[i] <= 0 ? [corner, ...point] : point;
    });
    if (kept.length) corners = kept;
  }
  return corners;
}

/** Return the point between two corners where a linear function with these values is 0. */
function between([x0, y0], [x1, y1], a, b) {
  const share = a / (a - b);
  return [x0 + share * (x1 - x0), y0 + share * (y1 - y0)];
}
