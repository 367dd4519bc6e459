/** Searches in data that is read: zeroes, differences. All at the speed of memcmp. */

const ZEROES = Buffer.alloc(1 << 20);

/** Memory for data of images. Not from Node's pool, which small pieces share. */
export function dataBuffer(length: number): Buffer {
  return Buffer.allocUnsafeSlow(length);
}

export function isZero(data: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at += ZEROES.length) {
    const length = Math.min(ZEROES.length, end - at);
    if (data.compare(ZEROES, 0, length, at, at + length) !== 0) return false;
  }
  return true;
}

/** Offset of the first block of `step` bytes that is not zero; `end` if there is none. */
export function findNonZero(data: Buffer, start: number, end: number, step: number): number {
  if (isZero(data, start, end)) return end;
  let at = start;
  while (at < end && isZero(data, at, Math.min(at + step, end))) at += step;
  return Math.min(at, end);
}

/** Offset of the first block of `step` bytes in which the two differ; `end` if there is none. */
export function findDifference(a: Buffer, b: Buffer, start: number, end: number, step: number): number {
  if (a.compare(b, start, end, start, end) === 0) return end;
  let at = start;
  while (at < end && a.compare(b, at, Math.min(at + step, end), at, Math.min(at + step, end)) === 0)
    at += step;
  return Math.min(at, end);
}
