import { inflateSync } from "node:zlib";

export interface Picture {
  readonly width: number;
  readonly height: number;
  /** Red, green, blue and opacity of a pixel. */
  at(x: number, y: number): number[];
}

/** Reads a PNG of 8 bits and four channels, as figures are; written from the specification (W3C, PNG). */
export function decodePng(bytes: Uint8Array): Picture {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const content: Uint8Array[] = [];
  let [width, height] = [0, 0];
  for (let at = 8; at < bytes.length; ) {
    const length = view.getUint32(at);
    const type = Buffer.from(bytes.subarray(at + 4, at + 8)).toString("latin1");
    if (type === "IHDR") {
      [width, height] = [view.getUint32(at + 8), view.getUint32(at + 12)];
      if (view.getUint32(at + 16) !== 0x08060000) throw new Error("not 8 bits and four channels");
    }
    if (type === "IDAT") content.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  const raw = inflateSync(Buffer.concat(content));
  const stride = 4 * width;
  const pixels = new Uint8Array(stride * height);
  const value = (x: number, y: number) => (x < 0 || y < 0 ? 0 : pixels[y * stride + x]!);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < stride; x++) {
      const [left, up, corner] = [value(x - 4, y), value(x, y - 1), x < 4 ? 0 : value(x - 4, y - 1)];
      const nearest = [left, up, corner].reduce((best, next) =>
        Math.abs(left + up - corner - next) < Math.abs(left + up - corner - best) ? next : best,
      );
      const predicted = [0, left, up, (left + up) >> 1, nearest][raw[y * (stride + 1)]!]!;
      pixels[y * stride + x] = raw[y * (stride + 1) + 1 + x]! + predicted;
    }
  return { width, height, at: (x, y) => [...pixels.subarray(y * stride + 4 * x, y * stride + 4 * x + 4)] };
}
