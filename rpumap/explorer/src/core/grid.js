// Points of a map in square bins, so that the nearest ones are found among few.

const POINTS_A_BIN = 3;
const SLACK = 1e-9; // rounding of a place in the grid, many times over

/** A grid of bins over points that stay where they are. */
export class Grid {
  /**
   * @param {Float64Array} x one or more, all finite
   * @param {Float64Array} y
   */
  constructor(x, y) {
    this.x = x;
    this.y = y;
    const [left, right, bottom, top] = extent(x, y);
    const nBins = Math.max(1, x.length / POINTS_A_BIN);
    const [width, height] = [right - left, top - bottom];
    // bins are squares, unless all points lie on a line
    const side = Math.sqrt((width * height) / nBins) || Math.max(width, height) / nBins || 1;
    Object.assign(this, { left, bottom, side });
    this.nx = Math.min(Math.floor(width / side), x.length) + 1;
    this.ny = Math.min(Math.floor(height / side), x.length) + 1;
    this.#fill();
  }

  /** Sort the points by bin: those of bin b are `points` from `starts[b]` up to `starts[b + 1]`. */
  #fill() {
    const bins = Int32Array.from(this.x, (x, i) => {
      return this.column(x) * this.ny + this.row(this.y[i]);
    });
    this.starts = new Int32Array(this.nx * this.ny + 1);
    for (const bin of bins) this.starts[bin + 1]++;
    for (let bin = 0; bin < this.nx * this.ny; bin++) this.starts[bin + 1] += this.starts[bin];
    this.points = Int32Array.from(bins.keys()).sort((a, b) => bins[a] - bins[b]);
  }

  /** The column of bins that holds x, or is nearest to it. */
  column(x) {
    return Math.min(Math.max(Math.floor((x - this.left) / this.side) || 0, 0), this.nx - 1);
  }

  /** The row of bins that holds y, or is nearest to it. */
  row(y) {
    return Math.min(Math.max(Math.floor((y - this.bottom) / this.side) || 0, 0), this.ny - 1);
  }

  /**
   * Find the points nearest to a place.
   *
   * @param {number} px
   * @param {number} py
   * @param {import("./nearest.js").Smallest} near what is found: squares of distances, and points
   */
  nearest(px, py, near) {
    near.clear();
    const [column, row] = [this.column(px), this.row(py)];
    for (let ring = 0; ; ring++) {
      this.#visitRing(column, row, ring, px, py, near);
      const beyond = this.#distanceBeyond(column, row, ring, px, py);
      if (beyond * beyond >= near.most) return;
    }
  }

  /** Look at the points of the bins that are `ring` bins away, in either direction. */
  #visitRing(column, row, ring, px, py, near) {
    const [first, last] = [Math.max(column - ring, 0), Math.min(column + ring, this.nx - 1)];
    for (let c = first; c <= last; c++) {
      const isSide = Math.abs(c - column) === ring;
      const step = isSide || ring === 0 ? 1 : 2 * ring;
      for (let r = row - ring; r <= row + ring; r += step) {
        if (r >= 0 && r < this.ny) this.#visitBin(c * this.ny + r, px, py, near);
      }
    }
  }

  #visitBin(bin, px, py, near) {
    for (let at = this.starts[bin]; at < this.starts[bin + 1]; at++) {
      const point = this.points[at];
      const square = (px - this.x[point]) ** 2 + (py - this.y[point]) ** 2;
      if (square < near.most) near.add(square, point);
    }
  }

  /** A distance that all points outside of some rings have at least; Infinity if there are none. */
  #distanceBeyond(column, row, ring, px, py) {
    const { left, bottom, side, nx, ny } = this;
    const distance = Math.min(
      column - ring > 0 ? px - (left + (column - ring) * side) : Infinity,
      column + ring < nx - 1 ? left + (column + ring + 1) * side - px : Infinity,
      row - ring > 0 ? py - (bottom + (row - ring) * side) : Infinity,
      row + ring < ny - 1 ? bottom + (row + ring + 1) * side - py : Infinity,
    );
    return Math.max(0, distance - SLACK * side);
  }

  /**
   * List points among which all of a rectangle are.
   *
   * @param {number[]} rectangle left, bottom, right and top
   * @param {Int32Array} found where they are written; as long as there are points
   * @returns {number} how many
   */
  around([left, bottom, right, top], found) {
    let n = 0;
    const slack = SLACK * this.side;
    const [firstRow, lastRow] = [this.row(bottom - slack), this.row(top + slack)];
    const lastColumn = this.column(right + slack);
    for (let column = this.column(left - slack); column <= lastColumn; column++) {
      // bins of a column lie beside each other
      const end = this.starts[column * this.ny + lastRow + 1];
      for (let at = this.starts[column * this.ny + firstRow]; at < end; at++) {
        found[n++] = this.points[at];
      }
    }
    return n;
  }
}

function extent(x, y) {
  const ends = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < x.length; i++) {
    ends[0] = Math.min(ends[0], x[i]);
    ends[1] = Math.max(ends[1], x[i]);
    ends[2] = Math.min(ends[2], y[i]);
    ends[3] = Math.max(ends[3], y[i]);
  }
  return ends;
}
