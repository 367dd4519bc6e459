/**
 * A cache of metadata tables (L2 slices, refcount blocks) with the order in which they may be written.
 * A table's memory is taken when it is first used and given back by the cleaner. All functions that suspend are called with the image's lock
 * held; a lookup that hits needs no lock.
 */
import type { BlockNode } from '../node.ts';
import { BlockError } from '../errors.ts';

/** One cached table. `view` and `bytes` are over the same memory. */
export class CachedTable {
  /** In the file; 0: the slot is free. */
  offset = 0;
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView;
  /** Users that may suspend; a table in use stays. */
  references = 0;
  dirty = false;
  /** When it was last used, by the cache's counter. */
  stamp = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
  }
}

/** What a cache needs of its image. */
export interface CacheOwner {
  /** Where tables are. */
  readonly file: BlockNode;
  /** Throws when [offset, offset + length) would overwrite other metadata. */
  checkOverlap(offset: number, length: number, ignore: number): void | Promise<void>;
  /** Makes everything that was written, data too, stable. */
  flushFiles(): Promise<void>;
}

/** *Thread:* the node's. */
export class MetadataCache {
  readonly tableSize: number;
  /** Tables at most. */
  readonly capacity: number;
  readonly #owner: CacheOwner;
  /** What kind of metadata this is, for the overlap check. */
  readonly #kind: number;
  readonly #tables = new Map<number, CachedTable>();
  #counter = 0;
  #counterAtClean = 0;
  #dirtyTables = 0;
  /** Its dirty tables are written before one of ours is. */
  #dependency: MetadataCache | undefined;
  /** The files are flushed before one of ours is written. */
  #dependsOnFlush = false;

  constructor(owner: CacheOwner, tableSize: number, capacity: number, kind: number) {
    this.#owner = owner;
    this.tableSize = tableSize;
    this.capacity = capacity;
    this.#kind = kind;
  }

  /** Tables in memory. */
  get used(): number {
    return this.#tables.size;
  }
  get dirty(): boolean {
    return this.#dirtyTables > 0;
  }

  /** The table at `offset` if it is here: to be used before the caller suspends. */
  peek(offset: number): CachedTable | undefined {
    const table = this.#tables.get(offset);
    if (table && table.references === 0) table.stamp = ++this.#counter;
    return table;
  }

  /** The table at `offset`, read if need be. Lock held. Pair with `release`. */
  async get(offset: number): Promise<CachedTable> {
    let table = this.#tables.get(offset);
    if (!table) {
      table = await this.#claim(offset);
      try {
        await this.#owner.file.read(offset, [table.bytes]);
      } catch (error) {
        this.#drop(table);
        throw error;
      }
      this.#tables.set(offset, table);
    }
    table.references++;
    return table;
  }

  /** As `get`, for a table whose content is new: all zeroes, nothing is read. */
  async getNew(offset: number): Promise<CachedTable> {
    let table = this.#tables.get(offset);
    if (table) {
      table.bytes.fill(0);
    } else {
      table = await this.#claim(offset);
      table.bytes.fill(0);
      this.#tables.set(offset, table);
    }
    table.references++;
    return table;
  }

  release(table: CachedTable): void {
    if (--table.references === 0) table.stamp = ++this.#counter;
  }

  markDirty(table: CachedTable): void {
    if (table.dirty) return;
    table.dirty = true;
    this.#dirtyTables++;
  }

  /** A table's memory for `offset`: a new one, or that of who was not used longest. Not yet in the map. */
  async #claim(offset: number): Promise<CachedTable> {
    if (offset === 0 || offset % this.tableSize !== 0) {
      throw new BlockError('EIO', `Cannot get entry from cache: Offset ${hex(offset)} is unaligned`);
    }
    let table: CachedTable | undefined;
    if (this.#tables.size >= this.capacity) {
      for (const each of this.#tables.values()) {
        if (each.references === 0 && (!table || each.stamp < table.stamp)) table = each;
      }
    }
    if (!table) {
      table = new CachedTable(this.tableSize);
    } else {
      if (table.dirty) await this.#write(table);
      this.#tables.delete(table.offset);
    }
    table.offset = offset;
    table.dirty = false;
    return table;
  }

  #drop(table: CachedTable): void {
    // gives the memory back now: a thread that sleeps collects no garbage
    table.bytes.buffer.transfer(0);
    table.bytes = new Uint8Array(0);
  }

  /** Ours are written after `other`'s that are dirty now. */
  async setDependency(other: MetadataCache): Promise<void> {
    // a circle is cut by writing
    if (other.#dependency) await other.#settleDependency();
    if (this.#dependency && this.#dependency !== other) await this.#settleDependency();
    this.#dependency = other;
  }

  /** Ours are written after what is in the files now is stable. */
  dependOnFlush(): void {
    this.#dependsOnFlush = true;
  }

  async #settleDependency(): Promise<void> {
    const dependency = this.#dependency;
    if (dependency) {
      await dependency.writeAll();
      this.#dependsOnFlush = true;
      this.#dependency = undefined;
    }
    if (this.#dependsOnFlush) {
      await this.#owner.flushFiles();
      this.#dependsOnFlush = false;
    }
  }

  async #write(table: CachedTable): Promise<void> {
    if (this.#dependency || this.#dependsOnFlush) await this.#settleDependency();
    const check = this.#owner.checkOverlap(table.offset, this.tableSize, this.#kind);
    if (check) await check;
    await this.#owner.file.write(table.offset, [table.bytes]);
    table.dirty = false;
    this.#dirtyTables--;
  }

  /** Writes what is dirty, in the file's order. Lock held. */
  async writeAll(): Promise<void> {
    if (this.#dirtyTables === 0) return;
    const dirty = [...this.#tables.values()]
      .filter((table) => table.dirty)
      .sort((a, b) => a.offset - b.offset);
    for (const table of dirty) if (table.dirty) await this.#write(table);
  }

  /** Writes what is dirty, and makes it stable. Lock held. */
  async flush(): Promise<void> {
    await this.writeAll();
    await this.#owner.flushFiles();
  }

  /** Forgets the table at `offset`, whose cluster is free now. */
  discard(offset: number): void {
    const table = this.#tables.get(offset);
    if (!table || table.references > 0) return;
    if (table.dirty) this.#dirtyTables--;
    this.#tables.delete(offset);
    this.#drop(table);
  }

  /** Forgets the tables in [offset, offset + length), which were changed in the file. */
  forget(offset: number, length: number): void {
    for (let at = 0; at < length; at += this.tableSize) this.discard(offset + at);
  }

  /** Forgets everything, dirty or not. */
  invalidate(): void {
    for (const table of this.#tables.values()) this.#drop(table);
    this.#tables.clear();
    this.#dirtyTables = 0;
    this.#dependency = undefined;
    this.#dependsOnFlush = false;
  }

  /** Gives back clean tables that nobody used since the last call. Returns how many. */
  clean(): number {
    let dropped = 0;
    for (const [offset, table] of this.#tables) {
      if (table.references > 0 || table.dirty || table.stamp > this.#counterAtClean) continue;
      this.#tables.delete(offset);
      this.#drop(table);
      dropped++;
    }
    this.#counterAtClean = this.#counter;
    return dropped;
  }
}

/** As QEMU prints offsets. */
export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
