/**
 * Writer of cpio archives in the "newc" format that Linux unpacks as an initramfs
 * (Documentation/driver-api/early-userspace/buffer-format.rst).
 */

const S_IFDIR = 0o040000;
const S_IFCHR = 0o020000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

const TRAILER = 'TRAILER!!!';
const MAGIC = '070701';

interface Entry {
  readonly name: string;
  readonly mode: number;
  readonly data: Uint8Array;
  readonly rdev: readonly [major: number, minor: number];
}

/** Collects files and makes the archive. Parent directories are added as needed. Everything belongs to root. */
export class CpioWriter {
  readonly #entries = new Map<string, Entry>();

  /** Paths are relative to the root, with or without a leading slash; a later file replaces an earlier one. */
  directory(path: string, mode = 0o755): this {
    return this.#add(path, S_IFDIR | mode, new Uint8Array(0));
  }

  file(path: string, data: Uint8Array | string, mode = 0o644): this {
    return this.#add(path, S_IFREG | mode, typeof data === 'string' ? Buffer.from(data) : data);
  }

  symlink(path: string, target: string): this {
    return this.#add(path, S_IFLNK | 0o777, Buffer.from(target));
  }

  characterDevice(path: string, major: number, minor: number, mode = 0o600): this {
    return this.#add(path, S_IFCHR | mode, new Uint8Array(0), [major, minor]);
  }

  has(path: string): boolean {
    return this.#entries.has(normalise(path));
  }

  /** The archive. Times are 0, so equal content gives equal bytes. */
  finish(): Buffer {
    const parts: Uint8Array[] = [];
    let inode = 1;
    for (const entry of this.#entries.values()) pushEntry(parts, entry, inode++);
    pushEntry(parts, { name: TRAILER, mode: 0, data: new Uint8Array(0), rdev: [0, 0] }, 0);
    return Buffer.concat(parts);
  }

  #add(path: string, mode: number, data: Uint8Array, rdev: readonly [number, number] = [0, 0]): this {
    const name = normalise(path);
    const slash = name.lastIndexOf('/');
    if (slash > 0) {
      const parent = name.slice(0, slash);
      if (!this.#entries.has(parent)) this.directory(parent);
    }
    this.#entries.set(name, { name, mode, data, rdev });
    return this;
  }
}

function normalise(path: string): string {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.length === 0 || parts.includes('..')) throw new RangeError(`bad path in an archive: '${path}'`);
  return parts.join('/');
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0');
}

function pushEntry(parts: Uint8Array[], entry: Entry, inode: number): void {
  const name = Buffer.from(`${entry.name}\0`);
  const links = (entry.mode & S_IFDIR) !== 0 && (entry.mode & S_IFREG) === 0 ? 2 : 1;
  const fields = [
    inode,
    entry.mode,
    0, // uid
    0, // gid
    links,
    0, // mtime
    entry.data.length,
    0, // device of the file
    0,
    entry.rdev[0],
    entry.rdev[1],
    name.length,
    0, // checksum: only the "crc" format has one
  ];
  const header = Buffer.from(MAGIC + fields.map(hex).join(''));
  parts.push(header, name, padding(header.length + name.length), entry.data, padding(entry.data.length));
}

/** Header with name, and data, are each padded to 4 bytes. */
function padding(length: number): Uint8Array {
  return new Uint8Array(-length & 3);
}
