/**
 * Writer of ACPI Machine Language. ACPI Specification 6.5, chapter 20 (encoding) and 6.4 (resource descriptors).
 * Every function returns the bytes of one term; terms are concatenated.
 */

/** Encoded AML. */
export type Aml = readonly number[];

/** A name or value that AML cannot express. */
export class AmlError extends Error {
  readonly code = 'ERR_AML';
  constructor(message: string) {
    super(message);
    this.name = 'AmlError';
  }
}

const EXT = 0x5b;

function littleEndian(value: number, size: number): number[] {
  return Array.from({ length: size }, (_, i) => Math.floor(value / 2 ** (8 * i)) % 256);
}

/** PkgLength in front of `body`; the length counts itself (20.2.4). */
function withLength(body: Aml): number[] {
  for (let size = 1; size <= 4; size++) {
    const total = body.length + size;
    if (total < (size === 1 ? 64 : 2 ** (4 + 8 * (size - 1)))) return [...lengthBytes(total, size), ...body];
  }
  throw new AmlError(`a package of ${body.length} bytes`);
}

function lengthBytes(total: number, size: number): number[] {
  if (size === 1) return [total];
  return [((size - 1) << 6) | (total & 0x0f), ...littleEndian(total >>> 4, size - 1)];
}

/** A length that does not count itself: bits of a field. */
function fieldLength(bits: number): number[] {
  if (bits < 64) return [bits];
  for (let size = 2; size <= 4; size++) {
    if (bits < 2 ** (4 + 8 * (size - 1))) return lengthBytes(bits, size);
  }
  throw new AmlError(`a field of ${bits} bits`);
}

function segment(name: string): number[] {
  if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(name)) throw new AmlError(`name ${name}`);
  return Array.from(name.padEnd(4, '_'), (c) => c.charCodeAt(0));
}

/** NameString: `LNKA`, `\_SB.PCI0`, `^PCI0.ISA_`. */
export function path(name: string): Aml {
  const prefix = /^(\\|\^*)/.exec(name)![0];
  const rest = name.slice(prefix.length);
  const out = Array.from(prefix, (c) => c.charCodeAt(0));
  const segments = rest === '' ? [] : rest.split('.');
  if (segments.length === 0) out.push(0x00);
  else if (segments.length === 2) out.push(0x2e);
  else if (segments.length > 2) out.push(0x2f, segments.length);
  for (const s of segments) out.push(...segment(s));
  return out;
}

/** An integer in its shortest encoding. */
export function int(value: number): Aml {
  if (value === 0) return [0x00];
  if (value === 1) return [0x01];
  if (value < 0x100) return [0x0a, value];
  if (value < 0x1_0000) return [0x0b, ...littleEndian(value, 2)];
  if (value < 2 ** 32) return [0x0c, ...littleEndian(value, 4)];
  return [0x0e, ...littleEndian(value, 8)];
}

export function string(text: string): Aml {
  return [0x0d, ...Array.from(text, (c) => c.charCodeAt(0) & 0x7f), 0];
}

/** A compressed EISA ID such as `PNP0A03` (EISAID macro): big-endian letters and digits. */
export function eisaId(id: string): Aml {
  if (!/^[A-Z]{3}[0-9A-F]{4}$/.test(id)) throw new AmlError(`EISA ID ${id}`);
  const letter = (i: number): number => id.charCodeAt(i) - 0x40;
  const vendor = (letter(0) << 10) | (letter(1) << 5) | letter(2);
  const product = Number.parseInt(id.slice(3), 16);
  return [0x0c, vendor >> 8, vendor & 0xff, product >> 8, product & 0xff];
}

export function buffer(bytes: Aml): Aml {
  return [0x11, ...withLength([...int(bytes.length), ...bytes])];
}

export function pkg(elements: readonly Aml[]): Aml {
  if (elements.length > 255) throw new AmlError(`a package of ${elements.length} elements`);
  return [0x12, ...withLength([elements.length, ...elements.flat()])];
}

export function name(id: string, value: Aml): Aml {
  return [0x08, ...path(id), ...value];
}

export function scope(id: string, terms: readonly Aml[]): Aml {
  return [0x10, ...withLength([...path(id), ...terms.flat()])];
}

export function device(id: string, terms: readonly Aml[]): Aml {
  return [EXT, 0x82, ...withLength([...path(id), ...terms.flat()])];
}

/** Processor (19.6.108), without a P_BLK. `processorId` 0–254. */
export function processor(id: string, processorId: number, terms: readonly Aml[] = []): Aml {
  if (processorId > 254) throw new AmlError(`processor ID ${processorId}`);
  return [EXT, 0x83, ...withLength([...path(id), processorId, 0, 0, 0, 0, 0, ...terms.flat()])];
}

/** A method with `args` arguments; `serialized` when it names objects. */
export function method(id: string, args: number, serialized: boolean, terms: readonly Aml[]): Aml {
  return [0x14, ...withLength([...path(id), args | (serialized ? 8 : 0), ...terms.flat()])];
}

/** RegionSpace values. */
export const REGION = { MEMORY: 0, IO: 1, PCI_CONFIG: 2 } as const;

export function operationRegion(id: string, space: number, offset: number, length: number): Aml {
  return [EXT, 0x80, ...path(id), space, ...int(offset), ...int(length)];
}

/** Access types of a field. */
export const ACCESS = { ANY: 0, BYTE: 1, WORD: 2, DWORD: 3 } as const;

/** A field with no lock that preserves other bits. Entries: [name or '' for a gap, bits]. */
export function field(
  region: string,
  access: number,
  entries: readonly (readonly [id: string, bits: number])[],
): Aml {
  const list = entries.flatMap(([id, bits]) => [...(id === '' ? [0x00] : segment(id)), ...fieldLength(bits)]);
  return [EXT, 0x81, ...withLength([...path(region), access, ...list])];
}

export function createDwordField(source: Aml, index: number, id: string): Aml {
  return [0x8a, ...source, ...int(index), ...path(id)];
}

export function arg(n: number): Aml {
  return [0x68 + n];
}
export function local(n: number): Aml {
  return [0x60 + n];
}
/** A null target: the result is only returned. */
export const NO_TARGET: Aml = [0x00];

export function store(value: Aml, target: Aml): Aml {
  return [0x70, ...value, ...target];
}
export function and(a: Aml, b: Aml, target: Aml = NO_TARGET): Aml {
  return [0x7b, ...a, ...b, ...target];
}
export function or(a: Aml, b: Aml, target: Aml = NO_TARGET): Aml {
  return [0x7d, ...a, ...b, ...target];
}
export function less(a: Aml, b: Aml): Aml {
  return [0x95, ...a, ...b];
}
export function ifThen(predicate: Aml, terms: readonly Aml[]): Aml {
  return [0xa0, ...withLength([...predicate, ...terms.flat()])];
}
export function otherwise(terms: readonly Aml[]): Aml {
  return [0xa1, ...withLength(terms.flat())];
}
export function ret(value: Aml): Aml {
  return [0xa4, ...value];
}

// --- resource descriptors (6.4) ---

/** A resource template: the descriptors and an end tag without checksum. */
export function resources(descriptors: readonly Aml[]): Aml {
  return buffer([...descriptors.flat(), 0x79, 0x00]);
}

/** I/O port descriptor, 16-bit decode (6.4.2.5). */
export function ioPorts(base: number, length: number): Aml {
  return [0x47, 0x01, ...littleEndian(base, 2), ...littleEndian(base, 2), 0x01, length];
}

/** IRQ descriptor without flags: edge, active high (6.4.2.1). */
export function irqNoFlags(irq: number): Aml {
  return [0x22, ...littleEndian(1 << irq, 2)];
}

/** Offset of the interrupt number in the descriptor of `interrupt`. */
export const INTERRUPT_NUMBER_OFFSET = 5;

/** Extended interrupt descriptor: level, active high, shared, consumer (6.4.3.6). */
export function interrupt(numbers: readonly number[]): Aml {
  const list = numbers.flatMap((n) => littleEndian(n, 4));
  return [0x89, ...littleEndian(2 + list.length, 2), 0x09, numbers.length, ...list];
}

/** 32-bit fixed memory descriptor (6.4.3.4). */
export function memory32Fixed(base: number, length: number, writable: boolean): Aml {
  return [
    0x86,
    ...littleEndian(9, 2),
    writable ? 1 : 0,
    ...littleEndian(base, 4),
    ...littleEndian(length, 4),
  ];
}

const RANGE_MEMORY = 0;
const RANGE_IO = 1;
const RANGE_BUS = 2;
/** Producer, positive decode, minimum and maximum fixed. */
const FIXED = 0x0c;

/** Address space descriptor with fields of `size` bytes, from `min` to `max` inclusive (6.4.3.5). */
function addressSpace(tag: number, size: number, type: number, flags: number, min: number, max: number): Aml {
  const values = [0, min, max, 0, max - min + 1].flatMap((v) => littleEndian(v, size));
  return [tag, ...littleEndian(3 + values.length, 2), type, FIXED, flags, ...values];
}

export function wordBusNumber(min: number, max: number): Aml {
  return addressSpace(0x88, 2, RANGE_BUS, 0, min, max);
}
/** Port window, entire range. */
export function wordIo(min: number, max: number): Aml {
  return addressSpace(0x88, 2, RANGE_IO, 0x03, min, max);
}
/** Memory window, read-write, cacheable or not. */
export function dwordMemory(min: number, max: number, cacheable: boolean): Aml {
  return addressSpace(0x87, 4, RANGE_MEMORY, cacheable ? 0x03 : 0x01, min, max);
}
