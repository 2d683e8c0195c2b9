import { deflateSync } from "node:zlib";

/**
 * An image as the bytes of a PNG: colours of 8 bits, red, green, blue and opacity.
 *
 * @param rgba 4 bytes a pixel, row after row
 */
export function encodePng(rgba: Uint8Array, width: number, height: number): Uint8Array {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  // 8 bits a channel, four channels, and the only methods of compression, filters and interlacing.
  header.set([8, 6, 0, 0, 0], 8);
  // Each row is led by the number of its filter: 0, none.
  const rows = new Uint8Array(height * (1 + 4 * width));
  for (let y = 0; y < height; y++)
    rows.set(rgba.subarray(4 * width * y, 4 * width * (y + 1)), y * (1 + 4 * width) + 1);
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  return joined([
    signature,
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(rows, { level: 9 })),
    chunk("IEND", new Uint8Array(0)),
  ]);
}

/** Length, type, content, and the checksum of type and content. */
function chunk(type: string, content: Uint8Array): Uint8Array {
  const checked = joined([new TextEncoder().encode(type), content]);
  const framed = new Uint8Array(checked.length + 8);
  const view = new DataView(framed.buffer);
  view.setUint32(0, content.length);
  framed.set(checked, 4);
  view.setUint32(framed.length - 4, crc32(checked));
  return framed;
}

/** The cyclic redundancy check of ISO 3309 (polynomial 0xedb88320, bits reversed). */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
