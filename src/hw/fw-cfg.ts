/**
 * QEMU firmware configuration device, ports 510–51B. Interface: QEMU documentation, docs/specs/fw_cfg.rst.
 *
 * Items lie in an arena of shared memory: they are added while the machine is built and their sizes stay.
 */
import { array, bytes, struct, u16, u32, u8, type ViewOf } from '@smp86/atomics-sync';
import { allOnes, type IoHandler } from './device.ts';

/** Selector (2 ports, width 2) and DMA address (8 ports, width 4). */
export const FW_CFG_PORT = 0x510;
export const FW_CFG_PORTS = 2;
export const FW_CFG_DMA_PORT = 0x514;
export const FW_CFG_DMA_PORTS = 8;

/** Well-known keys. */
export const FW_CFG = {
  SIGNATURE: 0x00,
  ID: 0x01,
  UUID: 0x02,
  RAM_SIZE: 0x03,
  NOGRAPHIC: 0x04,
  NB_CPUS: 0x05,
  KERNEL_ADDR: 0x07,
  KERNEL_SIZE: 0x08,
  INITRD_ADDR: 0x0a,
  INITRD_SIZE: 0x0b,
  BOOT_MENU: 0x0e,
  MAX_CPUS: 0x0f,
  KERNEL_DATA: 0x11,
  INITRD_DATA: 0x12,
  CMDLINE_ADDR: 0x13,
  CMDLINE_SIZE: 0x14,
  CMDLINE_DATA: 0x15,
  FILE_DIR: 0x19,
  FILE_FIRST: 0x20,
} as const;

const ID_TRADITIONAL = 1;
const ID_DMA = 2;
const KEY_MASK = 0x3fff;
const NO_ITEM = 0xffff;
const MAX_ITEMS = 96;
const NAME_SIZE = 56;
const DIR_ENTRY_SIZE = 64;

const DMA_ERROR = 1 << 0;
const DMA_READ = 1 << 1;
const DMA_SKIP = 1 << 2;
const DMA_SELECT = 1 << 3;
const DMA_WRITE = 1 << 4;
const DMA_DESCRIPTOR_SIZE = 16;
/** What the DMA address register reads as, in memory order. */
const DMA_SIGNATURE = 'QEMU CFG';
const CHUNK = 4096;

const Item = struct({
  at: u32,
  length: u32,
  key: u16,
  writable: u8,
  nameLength: u8,
  name: bytes(NAME_SIZE),
});

/** *Lock:* BQL. Snapshot version 1. */
export const FwCfgState = struct({
  items: array(Item, MAX_ITEMS),
  itemCount: u16,
  /** Index of the selected item, or NO_ITEM; the file directory is selected by key. */
  selected: u16,
  key: u16,
  /** Position in the selected item. */
  offset: u32,
  dmaHigh: u32,
  /** Bytes of the arena in use. */
  used: u32,
});

/** Guest-physical memory for DMA. False when part of the range is not RAM. *Lock:* BQL. */
export interface FwCfgMemory {
  read(address: number, into: Uint8Array): boolean;
  write(address: number, from: Uint8Array): boolean;
}

/** A host mistake: too many items, no room, a name that does not fit, a key used twice. */
export class FwCfgError extends Error {
  readonly code = 'ERR_FW_CFG';
  constructor(message: string) {
    super(message);
    this.name = 'FwCfgError';
  }
}

/** *Thread:* any; items are added by the machine's creator. *Lock:* BQL. */
export class FwCfg {
  /** Ports 510 and 511. */
  readonly ports: IoHandler;
  /** Ports 514–51B. */
  readonly dma: IoHandler;
  readonly #s: ViewOf<typeof FwCfgState>;
  readonly #arena: Uint8Array;
  readonly #memory: FwCfgMemory;

  /** `arena` is shared memory for the items' contents. */
  constructor(state: ViewOf<typeof FwCfgState>, arena: Uint8Array, memory: FwCfgMemory) {
    this.#s = state;
    this.#arena = arena;
    this.#memory = memory;
    this.ports = {
      read: (offset, size) => (offset === 1 && size === 1 ? this.#nextByte() : allOnes(size)),
      write: (offset, size, value) => {
        if (offset === 0 && size === 2) this.#select(value);
      },
    };
    this.dma = {
      read: (offset, size) => {
        let value = 0;
        for (let i = size - 1; i >= 0; i--) value = (value << 8) | DMA_SIGNATURE.charCodeAt(offset + i);
        return value >>> 0;
      },
      write: (offset, size, value) => {
        if (size !== 4) return;
        if (offset === 0) state.dmaHigh = swap32(value);
        else if (offset === 4) {
          const high = state.dmaHigh;
          state.dmaHigh = 0;
          this.#transfer(high * 2 ** 32 + swap32(value));
        }
      },
    };
  }

  /** Power-on: no items but the signature and the feature bits. */
  powerOn(): void {
    const s = this.#s;
    s.itemCount = 0;
    s.used = 0;
    this.reset();
    this.addItem(
      FW_CFG.SIGNATURE,
      Uint8Array.from('QEMU', (c) => c.charCodeAt(0)),
    );
    this.addItem(FW_CFG.ID, Uint8Array.of(ID_TRADITIONAL | ID_DMA, 0, 0, 0));
    this.#select(FW_CFG.SIGNATURE);
  }

  reset(): void {
    const s = this.#s;
    s.dmaHigh = 0;
    this.#select(FW_CFG.SIGNATURE);
  }

  /** Adds an item under a fixed key. Throws FwCfgError. */
  addItem(key: number, content: Uint8Array, writable = false): void {
    this.#add(key, '', content, writable);
  }

  /** Adds a number as a little-endian item of `size` bytes (up to 8). Throws FwCfgError. */
  addNumber(key: number, value: number, size: 2 | 4 | 8): void {
    const content = new Uint8Array(8);
    new DataView(content.buffer).setBigUint64(0, BigInt(value), true);
    this.addItem(key, content.subarray(0, size));
  }

  /** Adds a named file and returns its key. Throws FwCfgError. */
  addFile(name: string, content: Uint8Array, writable = false): number {
    const s = this.#s;
    if (name.length === 0 || name.length >= NAME_SIZE) throw new FwCfgError(`file name ${name}`);
    let key: number = FW_CFG.FILE_FIRST;
    for (let i = 0; i < s.itemCount; i++) {
      const item = s.items[i];
      if (item.nameLength === 0) continue;
      if (nameOf(item) === name) throw new FwCfgError(`file ${name} exists`);
      key = Math.max(key, item.key + 1);
    }
    this.#add(key, name, content, writable);
    return key;
  }

  /** Content of a file, which a guest may have written; undefined when there is none of that name. */
  file(name: string): Uint8Array | undefined {
    const s = this.#s;
    for (let i = 0; i < s.itemCount; i++) {
      const item = s.items[i];
      if (nameOf(item) === name) return this.#arena.subarray(item.at, item.at + item.length);
    }
    return undefined;
  }

  #add(key: number, name: string, content: Uint8Array, writable: boolean): void {
    const s = this.#s;
    if (s.itemCount === MAX_ITEMS) throw new FwCfgError('too many items');
    if (s.used + content.length > this.#arena.length) throw new FwCfgError(`no room for ${name || key}`);
    if (this.#find(key) !== NO_ITEM) throw new FwCfgError(`key ${key} is taken`);
    const item = s.items[s.itemCount++];
    item.key = key;
    item.at = s.used;
    item.length = content.length;
    item.writable = writable ? 1 : 0;
    item.nameLength = name.length;
    item.name.fill(0);
    for (let i = 0; i < name.length; i++) item.name[i] = name.charCodeAt(i);
    this.#arena.set(content, s.used);
    s.used += content.length;
  }

  #find(key: number): number {
    const s = this.#s;
    for (let i = 0; i < s.itemCount; i++) if (s.items[i].key === key) return i;
    return NO_ITEM;
  }

  #select(key: number): void {
    const s = this.#s;
    s.key = key & KEY_MASK;
    s.selected = this.#find(s.key);
    s.offset = 0;
  }

  /** Length of what is selected. */
  #length(): number {
    const s = this.#s;
    if (s.key === FW_CFG.FILE_DIR) return 4 + this.#files() * DIR_ENTRY_SIZE;
    return s.selected === NO_ITEM ? 0 : s.items[s.selected].length;
  }

  #files(): number {
    const s = this.#s;
    let count = 0;
    for (let i = 0; i < s.itemCount; i++) if (s.items[i].nameLength !== 0) count++;
    return count;
  }

  /** Reading past the end gives zeros. */
  #nextByte(): number {
    const s = this.#s;
    const { offset } = s;
    if (offset >= this.#length()) return 0;
    s.offset = offset + 1;
    if (s.key === FW_CFG.FILE_DIR) return this.#directoryByte(offset);
    return this.#arena[s.items[s.selected].at + offset];
  }

  /** A byte of the directory: a count, then 64 bytes a file (size, key, reserved, name), big-endian. */
  #directoryByte(offset: number): number {
    const s = this.#s;
    if (offset < 4) return (this.#files() >>> (8 * (3 - offset))) & 0xff;
    let left = Math.floor((offset - 4) / DIR_ENTRY_SIZE);
    const at = (offset - 4) % DIR_ENTRY_SIZE;
    for (let i = 0; i < s.itemCount; i++) {
      const item = s.items[i];
      if (item.nameLength === 0 || left-- > 0) continue;
      if (at < 4) return (item.length >>> (8 * (3 - at))) & 0xff;
      if (at < 6) return (item.key >>> (8 * (5 - at))) & 0xff;
      return at < 8 ? 0 : item.name[at - 8];
    }
    return 0;
  }

  #transfer(descriptor: number): void {
    const request = new Uint8Array(DMA_DESCRIPTOR_SIZE);
    if (!this.#memory.read(descriptor, request)) return;
    const view = new DataView(request.buffer);
    const control = view.getUint32(0);
    const length = view.getUint32(4);
    const address = view.getUint32(8) * 2 ** 32 + view.getUint32(12);
    if ((control & DMA_SELECT) !== 0) this.#select(control >>> 16);
    let ok = true;
    if ((control & DMA_READ) !== 0) ok = this.#copyOut(address, length);
    else if ((control & DMA_WRITE) !== 0) ok = this.#copyIn(address, length);
    else if ((control & DMA_SKIP) !== 0) this.#s.offset = Math.min(this.#s.offset + length, this.#length());
    const result = new Uint8Array(4);
    result[3] = ok ? 0 : DMA_ERROR;
    this.#memory.write(descriptor, result);
  }

  #copyOut(address: number, length: number): boolean {
    const chunk = new Uint8Array(Math.min(CHUNK, length));
    for (let done = 0; done < length; done += chunk.length) {
      const part = chunk.subarray(0, Math.min(chunk.length, length - done));
      for (let i = 0; i < part.length; i++) part[i] = this.#nextByte();
      if (!this.#memory.write(address + done, part)) return false;
    }
    return true;
  }

  #copyIn(address: number, length: number): boolean {
    const s = this.#s;
    if (s.selected === NO_ITEM) return false;
    const item = s.items[s.selected];
    if (item.writable === 0 || s.offset + length > item.length) return false;
    const content = new Uint8Array(length);
    if (!this.#memory.read(address, content)) return false;
    this.#arena.set(content, item.at + s.offset);
    s.offset += length;
    return true;
  }
}

function nameOf(item: ViewOf<typeof Item>): string {
  return String.fromCharCode(...item.name.subarray(0, item.nameLength));
}

function swap32(value: number): number {
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}
