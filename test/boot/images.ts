/** Made-up kernels for the tests of the boot protocols. */
import type { E820Entry } from '../../src/machine/boot/index.ts';

export const MIB = 2 ** 20;

/** The map of a PC with `size` bytes of RAM. */
export function pcMap(size: number): E820Entry[] {
  return [
    { base: 0, length: 0x9_fc00, type: 1 },
    { base: 0x9_fc00, length: 0x400, type: 2 },
    { base: 0xe_0000, length: 0x2_0000, type: 2 },
    { base: MIB, length: size - MIB, type: 1 },
  ];
}

export interface BzImageShape {
  readonly version?: number;
  readonly entry64?: boolean;
  readonly loadflags?: number;
  readonly setupSectors?: number;
  readonly codeSize?: number;
  readonly prefAddress?: number;
  readonly initSize?: number;
  readonly initrdAddrMax?: number;
  readonly cmdlineSize?: number;
}

/** A bzImage whose protected-mode part is `codeSize` bytes of 0xcc. */
export function bzImage(shape: BzImageShape = {}): Uint8Array {
  const setupSectors = shape.setupSectors ?? 27;
  const codeSize = shape.codeSize ?? 64 * 1024;
  const kernelOffset = ((setupSectors || 4) + 1) * 512;
  const data = new Uint8Array(kernelOffset + codeSize);
  const view = new DataView(data.buffer);
  data[0x1f1] = setupSectors;
  view.setUint32(0x1f4, codeSize / 16, true);
  view.setUint16(0x1fe, 0xaa55, true);
  data[0x200] = 0xeb;
  data[0x201] = 0x6a;
  view.setUint32(0x202, 0x5372_6448, true);
  view.setUint16(0x206, shape.version ?? 0x20f, true);
  data[0x211] = shape.loadflags ?? 1;
  view.setUint32(0x214, MIB, true);
  view.setUint32(0x22c, shape.initrdAddrMax ?? 0x7fff_ffff, true);
  view.setUint32(0x230, 2 * MIB, true);
  data[0x234] = 1;
  view.setUint16(0x236, (shape.entry64 ?? true) ? 1 : 0, true);
  view.setUint32(0x238, shape.cmdlineSize ?? 2047, true);
  view.setBigUint64(0x258, BigInt(shape.prefAddress ?? 16 * MIB), true);
  view.setUint32(0x260, shape.initSize ?? 8 * MIB, true);
  data.fill(0xcc, kernelOffset);
  return data;
}

export interface ElfShape {
  readonly bits?: 32 | 64;
  readonly entry?: number;
  readonly physical?: number;
  readonly virtual?: number;
  readonly payload?: Uint8Array;
  readonly memorySize?: number;
  /** Bytes of a PT_NOTE segment. */
  readonly note?: Uint8Array;
  readonly noteAlign?: number;
}

/** An ELF executable with one loadable segment and perhaps notes. */
export function elfImage(shape: ElfShape = {}): Uint8Array {
  const wide = shape.bits === 64;
  const headerSize = wide ? 64 : 52;
  const entrySize = wide ? 56 : 32;
  const payload = shape.payload ?? new Uint8Array(4096).fill(0xcc);
  const note = shape.note ?? new Uint8Array(0);
  const noteAt = headerSize + 2 * entrySize;
  const payloadAt = Math.ceil((noteAt + note.length) / 64) * 64;
  const data = new Uint8Array(payloadAt + payload.length);
  const view = new DataView(data.buffer);
  const word = (at: number, value: number): void => {
    if (wide) view.setBigUint64(at, BigInt(value), true);
    else view.setUint32(at, value, true);
  };
  data.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, wide ? 62 : 3, true);
  word(24, shape.entry ?? MIB);
  word(wide ? 32 : 28, headerSize);
  view.setUint16(wide ? 54 : 42, entrySize, true);
  view.setUint16(wide ? 56 : 44, 2, true);
  const put = (index: number, fields: Record<string, number>): void => {
    const at = headerSize + index * entrySize;
    const offsets = wide
      ? { offset: 8, virtual: 16, physical: 24, fileSize: 32, memorySize: 40, align: 48 }
      : { offset: 4, virtual: 8, physical: 12, fileSize: 16, memorySize: 20, align: 28 };
    view.setUint32(at, fields.type, true);
    for (const [name, offset] of Object.entries(offsets)) word(at + offset, fields[name]);
  };
  const physical = shape.physical ?? MIB;
  put(0, {
    type: 1,
    offset: payloadAt,
    virtual: shape.virtual ?? physical,
    physical,
    fileSize: payload.length,
    memorySize: shape.memorySize ?? payload.length,
    align: 4096,
  });
  const noteFields = {
    offset: noteAt,
    virtual: 0,
    physical: 0,
    fileSize: note.length,
    memorySize: note.length,
  };
  put(1, { type: note.length > 0 ? 4 : 0, ...noteFields, align: shape.noteAlign ?? 4 });
  data.set(note, noteAt);
  data.set(payload, payloadAt);
  return data;
}

/** An ELF note with its padding. */
export function elfNote(name: string, type: number, descriptor: Uint8Array, align = 4): Uint8Array {
  const text = new TextEncoder().encode(`${name}\0`);
  const descriptorAt = Math.ceil((12 + text.length) / align) * align;
  const data = new Uint8Array(Math.ceil((descriptorAt + descriptor.length) / align) * align);
  const view = new DataView(data.buffer);
  view.setUint32(0, text.length, true);
  view.setUint32(4, descriptor.length, true);
  view.setUint32(8, type, true);
  data.set(text, 12);
  data.set(descriptor, descriptorAt);
  return data;
}

/** The note that makes an ELF file a PVH kernel. */
export function pvhNote(entry: number, align = 4): Uint8Array {
  const descriptor = new Uint8Array(4);
  new DataView(descriptor.buffer).setUint32(0, entry, true);
  return elfNote('Xen', 18, descriptor, align);
}

/** A multiboot header; with `addresses` (header, load, load end, bss end, entry) for a flat file. */
export function multibootHeader(flags: number, addresses: readonly number[] = []): Uint8Array {
  const words = [0x1bad_b002, flags, (-(0x1bad_b002 + flags) >>> 0) as number, ...addresses];
  const data = new Uint8Array(words.length * 4);
  const view = new DataView(data.buffer);
  words.forEach((word, i) => view.setUint32(i * 4, word, true));
  return data;
}
