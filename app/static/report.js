// Unpacks plotly.js and draws the figures of a report, each from the data beside it. All of it
// before the page is loaded, so that what prints without a reader has its figures too; the
// browser's own unpacking comes later, so it is done here (gzip, RFC 1952, of deflate, RFC 1951).

function unpacked(text) {
  const raw = atob(text);
  const bytes = Uint8Array.from({ length: raw.length }, (_, i) => raw.charCodeAt(i));
  // Written by the report itself: a header of ten bytes without a name; the size ends the file.
  const size = new DataView(bytes.buffer, bytes.length - 4).getUint32(0, true);
  return new TextDecoder().decode(inflated(bytes.subarray(10, -8), size));
}

function inflated(bytes, size) {
  const out = new Uint8Array(size);
  let [at, end, held, count] = [0, 0, 0, 0];
  const bits = (n) => {
    while (count < n) {
      held |= bytes[at++] << count;
      count += 8;
    }
    const value = held & ((1 << n) - 1);
    held >>>= n;
    count -= n;
    return value;
  };
  // Codes by their length, as many as there are of each, and the symbols in the codes' order.
  const tree = (lengths) => {
    const counts = new Uint16Array(16);
    for (const length of lengths) counts[length] += 1;
    counts[0] = 0;
    const starts = new Uint16Array(16);
    for (let i = 1; i < 15; i++) starts[i + 1] = starts[i] + counts[i];
    const symbols = new Uint16Array(lengths.length);
    lengths.forEach((length, symbol) => {
      if (length) symbols[starts[length]++] = symbol;
    });
    return { counts, symbols };
  };
  const symbol = ({ counts, symbols }) => {
    let [code, first, index] = [0, 0, 0];
    for (let length = 1; length < 16; length++) {
      code |= bits(1);
      const there = counts[length];
      if (code - first < there) return symbols[index + code - first];
      index += there;
      first = (first + there) << 1;
      code <<= 1;
    }
    throw new Error("the packed library is damaged");
  };
  // Lengths 3 to 258 and distances 1 to 32768: where each range starts, and its further bits.
  const ranges = (n, each, first) => {
    const found = [];
    for (let i = 0, start = first; i < n; i++) {
      const more = i < 2 * each ? 0 : Math.floor(i / each) - 1;
      found.push([start, more]);
      start += 1 << more;
    }
    return found;
  };
  const lengths = [...ranges(28, 4, 3), [258, 0]];
  const distances = ranges(30, 2, 1);
  const block = (literals, far) => {
    for (;;) {
      const found = symbol(literals);
      if (found === 256) return;
      if (found < 256) {
        out[end++] = found;
        continue;
      }
      const [least, more] = lengths[found - 257];
      const length = least + bits(more);
      const [near, further] = distances[symbol(far)];
      const from = end - near - bits(further);
      for (let i = 0; i < length; i++) out[end++] = out[from + i];
    }
  };
  const told = () => {
    const [literals, far, kinds] = [bits(5) + 257, bits(5) + 1, bits(4) + 4];
    const order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    const short = new Array(19).fill(0);
    for (let i = 0; i < kinds; i++) short[order[i]] = bits(3);
    const codes = tree(short);
    const all = [];
    while (all.length < literals + far) {
      const found = symbol(codes);
      if (found < 16) all.push(found);
      else {
        const [least, more] = [[3, 2], [3, 3], [11, 7]][found - 16];
        const value = found === 16 ? all[all.length - 1] : 0;
        for (let n = least + bits(more); n > 0; n--) all.push(value);
      }
    }
    block(tree(all.slice(0, literals)), tree(all.slice(literals)));
  };
  const fixed = () => {
    const usual = Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8));
    block(tree(usual), tree(new Array(30).fill(5)));
  };
  const stored = () => {
    [held, count] = [0, 0];
    const n = bytes[at] | (bytes[at + 1] << 8);
    out.set(bytes.subarray(at + 4, at + 4 + n), end);
    [at, end] = [at + 4 + n, end + n];
  };
  for (let last = 0; !last; ) {
    last = bits(1);
    const kind = bits(2);
    [stored, fixed, told][kind]();
  }
  return out;
}

function failed(place, error) {
  const what = place.getAttribute("aria-label");
  place.textContent = `${what}. This figure could not be drawn: ${error.message}`;
}

function draw(data) {
  const place = document.getElementById(data.dataset.figure);
  const { data: traces, layout } = JSON.parse(data.textContent);
  const options = { displayModeBar: false, responsive: false };
  Plotly.newPlot(place, traces, layout, options).then(
    () => place.classList.add("drawn"),
    (error) => failed(place, error),
  );
}

const library = document.createElement("script");
library.textContent = unpacked(document.getElementById("plotly").textContent);
document.head.append(library);
library.remove(); // it has run
document.querySelectorAll("script[data-figure]").forEach(draw);
