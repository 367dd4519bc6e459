/** Instruction bytes for comparing decoders: uniform random, and random with the shape of real encodings. */

/** Bytes from the start of one case to the next; the next case's bytes follow, so none is short of bytes. */
export const STRIDE = 16;

/** Small xorshift generator, so that a failing case can be found again by its seed. */
export function generator(seed: number): () => number {
  let state = (seed + 1) * 0x9e3779b1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 1;
  };
}

const PREFIXES = [0x66, 0xf2, 0xf3, 0x67, 0xf0, 0x2e, 0x36, 0x64, 0x65, 0x48, 0x41, 0x42, 0x44, 0x4f, 0x40];

/** `count` cases: an eighth uniform, the others with prefixes and a chosen opcode map before random bytes. */
export function randomCases(count: number, seed: number): Uint8Array {
  const next = generator(seed);
  const bytes = new Uint8Array((count + 1) * STRIDE);
  for (let i = 0; i < bytes.length; i++) bytes[i] = next();
  for (let i = 0; i < count; i++) {
    let p = i * STRIDE;
    const shape = next() % 8;
    if (shape === 0) continue;
    const prefixes = next() % 4 === 0 ? next() % 4 : next() % 2;
    for (let j = 0; j < prefixes; j++) bytes[p++] = PREFIXES[next() % PREFIXES.length];
    if (shape === 1) continue;
    if (shape <= 4) bytes[p++] = 0x0f;
    else if (shape === 5) {
      bytes[p++] = 0x0f;
      bytes[p++] = next() & 1 ? 0x38 : 0x3a;
    } else if (shape === 6) p = vexStart(bytes, p, next);
  }
  return bytes;
}

function vexStart(bytes: Uint8Array, at: number, next: () => number): number {
  let p = at;
  if (next() & 1) {
    bytes[p++] = 0xc4;
    bytes[p] = (bytes[p] & 0xe0) | (1 + (next() % 3));
    p++;
  } else bytes[p++] = 0xc5;
  // half of them without a second source
  if (next() & 1) bytes[p] |= 0x78;
  return p + 1;
}

const MANDATORY = [0x66, 0xf3, 0xf2];

/**
 * Every opcode of every map, with each mandatory prefix, W and L, ModRM.reg, memory and register. The rest is random.
 */
export function opcodeCases(seed: number): Uint8Array {
  const next = generator(seed);
  const count = 256 * 16 * 4 * (4 * 2 + 3 * 4);
  const bytes = new Uint8Array((count + 1) * STRIDE);
  for (let i = 0; i < bytes.length; i++) bytes[i] = next();
  let p = 0;
  for (let opcode = 0; opcode < 256; opcode++) {
    for (let form = 0; form < 16; form++) {
      for (let prefix = 0; prefix < 4; prefix++) {
        const modrm = (form & 8 ? 0xc0 : (next() % 3) << 6) | ((form & 7) << 3) | (next() & 7);
        for (let map = 0; map < 4; map++) {
          for (let w = 0; w < 2; w++, p += STRIDE) {
            let q = p;
            if (prefix) bytes[q++] = MANDATORY[prefix - 1];
            if (w) bytes[q++] = 0x48 | (next() & 7);
            if (map) bytes[q++] = 0x0f;
            if (map > 1) bytes[q++] = map === 2 ? 0x38 : 0x3a;
            bytes[q++] = opcode;
            bytes[q] = modrm;
          }
        }
        for (let map = 1; map < 4; map++) {
          for (let wl = 0; wl < 4; wl++, p += STRIDE) {
            bytes[p] = 0xc4;
            bytes[p + 1] = (next() & 0x20) | 0xc0 | map;
            const vvvv = next() & 1 ? next() & 0x78 : 0x78;
            bytes[p + 2] = ((wl & 1) << 7) | ((wl & 2) << 1) | prefix | vvvv;
            bytes[p + 3] = opcode;
            bytes[p + 4] = modrm;
          }
        }
      }
    }
  }
  return bytes;
}

/** Opcodes whose register forms are told apart by the whole ModRM byte: all of them, with each mandatory prefix. */
export function modrmCases(seed: number): Uint8Array {
  const next = generator(seed);
  const opcodes = [
    [0x0f, 0x00],
    [0x0f, 0x01],
    [0x0f, 0x0d],
    [0x0f, 0x18],
    [0x0f, 0x1e],
    [0x0f, 0xae],
    [0x0f, 0xc7],
  ];
  for (let op = 0xd8; op <= 0xdf; op++) opcodes.push([op]);
  const bytes = new Uint8Array((opcodes.length * 4 * 256 + 1) * STRIDE);
  for (let i = 0; i < bytes.length; i++) bytes[i] = next();
  let p = 0;
  for (const opcode of opcodes) {
    for (let prefix = 0; prefix < 4; prefix++) {
      for (let modrm = 0; modrm < 256; modrm++, p += STRIDE) {
        bytes.set([...(prefix ? [MANDATORY[prefix - 1]] : []), ...opcode, modrm], p);
      }
    }
  }
  return bytes;
}

/** A case as text, for messages. */
export function hexOf(bytes: Uint8Array, at: number, length: number): string {
  return [...bytes.subarray(at, at + length)].map((b) => b.toString(16).padStart(2, '0')).join(' ');
}
