"use strict";

// Planes of bytes: unpacked at once, since print does not wait for a browser's own stream ---------

// Of the codes that stand for lengths and distances: the least value, and the bits to add to it.
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4,
  5, 5, 5, 5, 0];
const DISTANCE_EXTRA = [0, 0, ...Array.from({ length: 28 }, (_, i) => i >> 1)];
const leastValues = (extra, first) => {
  let next = first;
  return extra.map((bits) => (next += 1 << bits) - (1 << bits));
};
const LENGTHS = leastValues(LENGTH_EXTRA, 3);
LENGTHS[28] = 258;
const DISTANCES = leastValues(DISTANCE_EXTRA, 1);
const LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

// For all bits that may follow: the symbol that they begin with, and how many of them it takes.
function makeTable(lengths) {
  const longest = Math.max(...lengths);
  const table = new Uint16Array(1 << longest);
  for (let length = 1, code = 0; length <= longest; length++, code <<= 1) {
    lengths.forEach((ofSymbol, symbol) => {
      if (ofSymbol !== length) return;
      let start = 0;  // codes come with their first bit lowest
      for (let i = 0; i < length; i++) start |= ((code >> i) & 1) << (length - 1 - i);
      for (let i = start; i < table.length; i += 1 << length) table[i] = (symbol << 4) | length;
      code++;
    });
  }
  return table;
}

const fill = (count, value) => new Array(count).fill(value);
const FIXED = [
  makeTable([...fill(144, 8), ...fill(112, 9), ...fill(24, 7), ...fill(8, 8)]),
  makeTable(fill(32, 5)),
];

class Bits {
  constructor(source) {
    this.source = source;
    this.place = 2;  // behind zlib's header
    this.held = this.count = 0;
  }
  need(count) {
    for (; this.count < count; this.count += 8) this.held |= this.source[this.place++] << this.count;
  }
  take(count) {
    this.need(count);
    const value = this.held & ((1 << count) - 1);
    this.held >>>= count;
    this.count -= count;
    return value;
  }
  symbol(table) {
    this.need(15);
    const entry = table[this.held & (table.length - 1)];
    this.held >>>= entry & 15;
    this.count -= entry & 15;
    return entry >> 4;
  }
  block() {
    this.place -= this.count >> 3;  // bytes that were read ahead
    this.held = this.count = 0;
    const length = this.source[this.place] | (this.source[this.place + 1] << 8);
    this.place += 4 + length;
    return this.source.subarray(this.place - length, this.place);
  }
}

function readTables(bits) {
  const nLiterals = bits.take(5) + 257, nDistances = bits.take(5) + 1, nCodes = bits.take(4) + 4;
  const ofCodes = fill(19, 0);
  for (let i = 0; i < nCodes; i++) ofCodes[LENGTH_ORDER[i]] = bits.take(3);
  const table = makeTable(ofCodes), lengths = [];
  while (lengths.length < nLiterals + nDistances) {
    const code = bits.symbol(table);
    if (code < 16) lengths.push(code);
    else if (code === 16) lengths.push(...fill(bits.take(2) + 3, lengths.at(-1)));
    else lengths.push(...fill(code === 17 ? bits.take(3) + 3 : bits.take(7) + 11, 0));
  }
  return [makeTable(lengths.slice(0, nLiterals)), makeTable(lengths.slice(nLiterals))];
}

// What zlib packed (RFC 1950 and 1951), into an array of its length.
function inflate(source, target) {
  const bits = new Bits(source);
  let end = 0;
  for (let isLast = 0; !isLast;) {
    isLast = bits.take(1);
    const kind = bits.take(2);
    if (kind === 0) {
      const block = bits.block();
      target.set(block, end);
      end += block.length;
      continue;
    }
    const [literals, distances] = kind === 1 ? FIXED : readTables(bits);
    for (let symbol; (symbol = bits.symbol(literals)) !== 256;) {
      if (symbol < 256) {
        target[end++] = symbol;
        continue;
      }
      const length = LENGTHS[symbol - 257] + bits.take(LENGTH_EXTRA[symbol - 257]);
      const code = bits.symbol(distances);
      const distance = DISTANCES[code] + bits.take(DISTANCE_EXTRA[code]);
      for (let i = 0; i < length; i++, end++) target[end] = target[end - distance];
    }
  }
  return target;
}

// A plane whose rows came as differences to the row above.
function decode(text, [rows, columns]) {
  const letters = atob(text), packed = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) packed[i] = letters.charCodeAt(i);
  const values = inflate(packed, new Uint8Array(rows * columns));
  for (let i = columns; i < values.length; i++) values[i] += values[i - columns];
  return values;
}

// Outlines ----------------------------------------------------------------------------------------

// The least and the greatest code of the four neighbours. Outside the image nothing is a defect.
function neighbours(codes, rows, columns) {
  const least = new Uint8Array(codes.length), most = new Uint8Array(codes.length);
  for (let row = 0, i = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, i++) {
      const above = row > 0 ? codes[i - columns] : 0;
      const below = row < rows - 1 ? codes[i + columns] : 0;
      const left = column > 0 ? codes[i - 1] : 0;
      const right = column < columns - 1 ? codes[i + 1] : 0;
      least[i] = Math.min(above, below, left, right);
      most[i] = Math.max(above, below, left, right);
    }
  }
  return [least, most];
}

// The border of the pixels above a level as a path of an SVG file, in blocks of pixels: closed
// lines from corner to corner, along which dashes run on.
function outlinePath(codes, above, [rows, columns]) {
  const isIn = (row, column) => row >= 0 && row < rows && column >= 0 && column < columns
    && codes[row * columns + column] > above;
  const width = columns + 1, next = new Map();
  // Where two pixels touch at a corner only, two lines go on from it.
  const link = (from, to) => (next.has(from) ? next.get(from).push(to) : next.set(from, [to]));
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (!isIn(row, column)) continue;
      const corner = row * width + column, below = corner + width;
      if (!isIn(row - 1, column)) link(corner, corner + 1);
      if (!isIn(row, column + 1)) link(corner + 1, below + 1);
      if (!isIn(row + 1, column)) link(below + 1, below);
      if (!isIn(row, column - 1)) link(below, corner);
    }
  }
  const lines = [];
  const point = (corner) => `${corner % width} ${Math.floor(corner / width)}`;
  for (const [start, ends] of next) {
    while (ends.length) {
      let line = `M${point(start)}`, at = start, step = 0;
      do {
        const to = next.get(at).pop();
        if (step && to - at !== step) line += `L${point(at)}`;
        step = to - at;
        at = to;
      } while (at !== start);
      lines.push(`${line}Z`);
    }
  }
  return lines.join("");
}
