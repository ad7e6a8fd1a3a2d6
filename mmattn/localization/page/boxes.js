// From a stored map to boxes: the answers of mmattn.localization.boxes and of best_iou, in the
// browser. Nothing here knows a page, so that a test can run it beside the Python code.

// Undo zlib and the difference along rows.
// A value says at how many of the slider's thresholds, from the lowest on, the rule selects a pixel.
async function unpackMap(text, width) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
  const counts = new Uint8Array(await new Response(stream).arrayBuffer());
  for (let i = 0; i < counts.length; i++) {
    if (i % width) counts[i] += counts[i - 1]; // modulo 256, as it was written
  }
  return counts;
}

// Boxes [x0, y0, x1, y1] in input pixels that the rule finds at threshold number `step`.
function boxesAt(counts, width, height, step, rule) {
  const mask = new Uint8Array(counts.length);
  for (let i = 0; i < mask.length; i++) mask[i] = counts[i] > step ? 1 : 0;
  const find = rule.select === 'largest-component' ? largestComponent : contours;
  const boxes = find(mask, width, height, rule);
  if (!boxes.length) return [rule.empty === 'whole' ? [0, 0, width, height] : [0, 0, 0, 0]];
  const last = rule.clip_last ? 1 : 0;
  return boxes.map(([x0, y0, x1, y1]) => [
    x0, y0, Math.min(x1, width - last), Math.min(y1, height - last)]);
}

// The 8-connected component with most pixels; the first in reading order on a tie.
function largestComponent(mask, width, height) {
  const waiting = new Int32Array(mask.length);
  let best = null;
  let most = 0;
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start]) continue;
    let [left, top, right, bottom, size, end] = [width, height, -1, -1, 0, 1];
    waiting[0] = start;
    mask[start] = 0;
    while (size < end) {
      const pixel = waiting[size++];
      const x = pixel % width;
      const y = (pixel - x) / width;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
      for (let v = Math.max(y - 1, 0); v <= Math.min(y + 1, height - 1); v++) {
        for (let u = Math.max(x - 1, 0); u <= Math.min(x + 1, width - 1); u++) {
          const other = v * width + u;
          if (mask[other]) {
            mask[other] = 0;
            waiting[end++] = other;
          }
        }
      }
    }
    if (size > most) [most, best] = [size, [left, top, right + 1, bottom + 1]];
  }
  return best ? [best] : [];
}

// Rectangles of the borders that the rule keeps; outer borders and those of holes.
function contours(mask, width, height, rule) {
  let found = borders(mask, width, height).reverse(); // OpenCV lists the last one first
  if (rule.select === 'longest-contour') {
    found = found.filter((border) => border.corners > rule.min_points);
    found = found.length ? [firstLargest(found, (border) => border.corners)] : [];
  } else if (rule.select === 'largest-contour' && found.length) {
    found = [firstLargest(found, (border) => border.area)];
  }
  return found.map((border) => border.box);
}

function firstLargest(items, value) {
  return items.reduce((best, item) => (value(item) > value(best) ? item : best));
}

// Border following of Suzuki and Abe, 1985: every border once, in the order of a raster scan.
function borders(mask, width, height) {
  const row = width + 2; // a frame of zeros around the mask
  const marks = new Int8Array(row * (height + 2)); // 1 new, 2 visited, -2 visited, 0 to its right
  for (let y = 0; y < height; y++) {
    marks.set(mask.subarray(y * width, (y + 1) * width), (y + 1) * row + 1);
  }
  const around = [1, 1 - row, -row, -row - 1, -1, row - 1, row, row + 1]; // anticlockwise from east
  const found = [];
  for (let pixel = row + 1; pixel < marks.length - row; pixel++) {
    if (marks[pixel] === 1 && marks[pixel - 1] === 0) {
      found.push(follow(marks, around, pixel, 4, row));
    } else if (marks[pixel] === 0 && marks[pixel - 1] > 0) {
      found.push(follow(marks, around, pixel - 1, 0, row));
    }
  }
  return found;
}

// Walk around one border; `outside` is the direction of the zero that it was found by.
function follow(marks, around, start, outside, row) {
  const at = (pixel) => [(pixel % row) - 1, Math.floor(pixel / row) - 1];
  const corners = [];
  let direction = outside;
  do direction = (direction + 7) % 8;
  while (!marks[start + around[direction]] && direction !== outside);
  if (direction === outside) { // a pixel on its own
    marks[start] = -2;
    corners.push(at(start));
  } else {
    const last = start + around[direction];
    let pixel = start;
    let before = (direction + 4) % 8;
    for (;;) {
      const from = direction;
      let turns = 1;
      while (!marks[pixel + around[(from + turns) % 8]]) turns++;
      direction = (from + turns) % 8;
      if (from + turns > 8) marks[pixel] = -2; // the search passed the east: a zero is there
      else if (marks[pixel] === 1) marks[pixel] = 2;
      if (direction !== before) corners.push(at(pixel));
      before = direction;
      const next = pixel + around[direction];
      if (next === start && pixel === last) break;
      pixel = next;
      direction = (direction + 4) % 8;
    }
  }
  const xs = corners.map(([x]) => x);
  const ys = corners.map(([, y]) => y);
  const twice = corners.reduce((sum, [x, y], i) => {
    const [u, v] = corners[(i + 1) % corners.length];
    return sum + x * v - u * y;
  }, 0);
  return {
    corners: corners.length,
    area: Math.abs(twice) / 2,
    box: [Math.min(...xs), Math.min(...ys), Math.max(...xs) + 1, Math.max(...ys) + 1],
  };
}

function toImage(box, shot) {
  const [height, width] = shot.image_size;
  return box.map((v, i) => {
    const moved = (v + shot.offset_xy[i % 2]) / shot.scale_xy[i % 2];
    return Math.min(Math.max(moved, 0), i % 2 ? height : width);
  });
}

function toInput(box, shot) {
  const [height, width] = shot.input_size;
  return box.map((v, i) => {
    const moved = v * shot.scale_xy[i % 2] - shot.offset_xy[i % 2];
    return Math.min(Math.max(moved, 0), i % 2 ? height : width);
  });
}

// Best IoU of boxes in input pixels with the true boxes, in the rule's convention.
function bestIou(boxes, truth, shot, rule) {
  const inclusive = rule.iou === 'pixel-inclusive';
  const found = inclusive ? boxes : boxes.map((box) => toImage(box, shot));
  const real = inclusive ? truth.map((box) => toInput(box, shot).map(Math.trunc)) : truth;
  const one = inclusive ? 1 : 0;
  const area = (b) => (b[2] - b[0] + one) * (b[3] - b[1] + one);
  let best = 0;
  for (const a of found) {
    for (const b of real) {
      const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]) + one;
      const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]) + one;
      const inter = Math.max(width, 0) * Math.max(height, 0);
      const union = area(a) + area(b) - inter;
      if (union > 0) best = Math.max(best, inter / union);
    }
  }
  return best;
}
