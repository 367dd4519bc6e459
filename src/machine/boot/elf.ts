/** Reader of ELF executables for x86 (System V ABI, generic chapters 4 and 5). Validates all it returns. */
import { BootError } from './errors.ts';
import type { BootMemory } from './memory.ts';

const MAGIC = 0x464c_457f;
const CLASS_32 = 1;
const CLASS_64 = 2;
const DATA_LITTLE_ENDIAN = 1;
const TYPE_EXEC = 2;
const TYPE_DYN = 3;
const MACHINE_386 = 3;
const MACHINE_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;

export interface ElfSegment {
  readonly type: number;
  readonly offset: number;
  readonly fileSize: number;
  readonly physical: number;
  readonly virtual: number;
  readonly memorySize: number;
  readonly align: number;
}

export interface ElfFile {
  readonly bits: 32 | 64;
  /** Virtual address of the entry point. */
  readonly entry: number;
  readonly segments: readonly ElfSegment[];
}

export function isElf(data: Uint8Array): boolean {
  return data.length >= 16 && viewOf(data).getUint32(0, true) === MAGIC;
}

function viewOf(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

/** Parses the headers. Throws BootError when they are no x86 executable's or point outside the file. */
export function parseElf(data: Uint8Array): ElfFile {
  const bad = (reason: string): BootError =>
    new BootError('ERR_BOOT_FORMAT', 'kernel', `ELF file: ${reason}`);
  const view = viewOf(data);
  if (!isElf(data)) throw bad('bad magic');
  const wide = data[4] === CLASS_64;
  if (!wide && data[4] !== CLASS_32) throw bad('neither 32 nor 64 bits');
  if (data[5] !== DATA_LITTLE_ENDIAN) throw bad('not little-endian');
  if (data.length < (wide ? 64 : 52)) {
    throw new BootError('ERR_BOOT_TRUNCATED', 'kernel', 'truncated: the file ends in the ELF header');
  }
  const type = view.getUint16(16, true);
  if (type !== TYPE_EXEC && type !== TYPE_DYN) throw bad('not an executable');
  const machine = view.getUint16(18, true);
  if (machine !== MACHINE_386 && machine !== MACHINE_X86_64) throw bad('not for x86');
  const word = (at: number): number =>
    wide ? Number(view.getBigUint64(at, true)) : view.getUint32(at, true);
  const tableAt = wide ? word(32) : word(28);
  const entrySize = view.getUint16(wide ? 54 : 42, true);
  const count = view.getUint16(wide ? 56 : 44, true);
  if (count === 0) throw bad('no program headers');
  if (entrySize < (wide ? 56 : 32)) throw bad('bad size of program headers');
  if (tableAt + count * entrySize > data.length) {
    throw new BootError('ERR_BOOT_TRUNCATED', 'kernel', 'truncated: ELF program headers lie beyond the end');
  }
  const segments: ElfSegment[] = [];
  for (let i = 0; i < count; i++) {
    const at = tableAt + i * entrySize;
    const segment: ElfSegment = wide
      ? {
          type: view.getUint32(at, true),
          offset: word(at + 8),
          virtual: word(at + 16),
          physical: word(at + 24),
          fileSize: word(at + 32),
          memorySize: word(at + 40),
          align: word(at + 48),
        }
      : {
          type: view.getUint32(at, true),
          offset: word(at + 4),
          virtual: word(at + 8),
          physical: word(at + 12),
          fileSize: word(at + 16),
          memorySize: word(at + 20),
          align: word(at + 28),
        };
    if (segment.type === PT_LOAD || segment.type === PT_NOTE) {
      if (segment.offset + segment.fileSize > data.length) {
        throw new BootError(
          'ERR_BOOT_TRUNCATED',
          'kernel',
          `truncated: ELF segment ${i} lies beyond the end`,
        );
      }
    }
    if (segment.type === PT_LOAD && segment.memorySize < segment.fileSize) {
      throw bad(`segment ${i} is smaller in memory than in the file`);
    }
    segments.push(segment);
  }
  return { bits: wide ? 64 : 32, entry: word(24), segments };
}

/** Copies the loadable segments to their physical addresses and clears the rest of each. */
export function loadElfSegments(memory: BootMemory, data: Uint8Array, elf: ElfFile): void {
  let loaded = 0;
  for (const segment of elf.segments) {
    if (segment.type !== PT_LOAD || segment.memorySize === 0) continue;
    const { physical, fileSize, memorySize } = segment;
    memory.reserve('kernel', `ELF segment ${loaded++}`, physical, memorySize);
    memory.ram.set(data.subarray(segment.offset, segment.offset + fileSize), physical);
    memory.ram.fill(0, physical + fileSize, physical + memorySize);
  }
  if (loaded === 0) throw new BootError('ERR_BOOT_FORMAT', 'kernel', 'ELF file: nothing to load');
}

/** The physical address that a virtual one has by the loadable segments, or undefined. */
export function elfPhysical(elf: ElfFile, address: number): number | undefined {
  for (const { type, virtual, physical, memorySize } of elf.segments) {
    if (type === PT_LOAD && address >= virtual && address < virtual + memorySize) {
      return physical + (address - virtual);
    }
  }
  return undefined;
}

/** The descriptor of the first note with this name and type, or undefined. */
export function findElfNote(
  data: Uint8Array,
  elf: ElfFile,
  name: string,
  type: number,
): Uint8Array | undefined {
  for (const segment of elf.segments) {
    if (segment.type !== PT_NOTE) continue;
    const notes = data.subarray(segment.offset, segment.offset + segment.fileSize);
    // Notes are padded to 4 bytes; some linkers pad to 8 in a segment that is aligned to 8.
    for (const align of segment.align === 8 ? [8, 4] : [4]) {
      const found = findNote(notes, align, name, type);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

function findNote(notes: Uint8Array, align: number, name: string, type: number): Uint8Array | undefined {
  const view = viewOf(notes);
  const wanted = `${name}\0`;
  let at = 0;
  while (at + 12 <= notes.length) {
    const nameSize = view.getUint32(at, true);
    const size = view.getUint32(at + 4, true);
    const nameAt = at + 12;
    const descriptorAt = Math.ceil((nameAt + nameSize) / align) * align;
    if (descriptorAt + size > notes.length) return undefined;
    if (view.getUint32(at + 8, true) === type && nameSize === wanted.length) {
      const text = String.fromCharCode(...notes.subarray(nameAt, nameAt + nameSize));
      if (text === wanted) return notes.subarray(descriptorAt, descriptorAt + size);
    }
    at = Math.ceil((descriptorAt + size) / align) * align;
  }
  return undefined;
}
