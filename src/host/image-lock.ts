/**
 * Locks of image files, as QEMU takes them, so that smp86, QEMU and qemu-img exclude each other. A user of a file holds
 * permissions, and shares permissions: tells which ones others may hold meanwhile. Held: a read lock on byte 100 + n of
 * the file. Not shared: a read lock on byte 200 + n. A lock of somebody else on the opposite byte is a conflict.
 * (QEMU: docs/devel/block-graph permissions; the bytes as `strace qemu-img` shows them.)
 */
import { BlockError } from '../block/errors.ts';
import { type HostFiles, hostFiles } from './host-files.ts';
import { SystemError } from './system-error.ts';

/** What one may do with a file. Bits of a mask; bit n is byte n. */
export const Permission = {
  consistentRead: 1,
  write: 2,
  /** Writes that change no content (copying on read). */
  writeUnchanged: 4,
  resize: 8,
} as const;

export const ALL_PERMISSIONS = 15;

const NAMES = ['consistent read', 'write', 'write unchanged', 'resize'];
const HELD_BASE = 100;
const NOT_SHARED_BASE = 200;

/** Masks of Permission. */
export interface LockMode {
  readonly held: number;
  readonly shared: number;
}

/** Nothing held, everything shared: no lock (`-U`, `locking=off`). */
export const UNLOCKED: LockMode = { held: 0, shared: ALL_PERMISSIONS };

const NOT_TO_CHANGE = ALL_PERMISSIONS & ~(Permission.write | Permission.resize);

/**
 * Of a file below a format that keeps metadata in it (qcow2), whoever uses the format: nobody else may write.
 * `reads` false: only metadata is looked at (`smp86 img info`).
 */
export function metadataLock(writable: boolean, reads = true): LockMode {
  const held = writable ? Permission.write | Permission.resize : 0;
  return { held: held | (reads ? Permission.consistentRead : 0), shared: NOT_TO_CHANGE };
}

/** Of a raw image that a command (`smp86 img`) uses: others may do what they like. */
export function commandLock(writable: boolean, resizes = false): LockMode {
  const held = (writable ? Permission.write : 0) | (resizes ? Permission.resize : 0);
  return { held: Permission.consistentRead | held, shared: ALL_PERMISSIONS };
}

/** Of a raw image that a guest's disk uses. `shareRw`: the device's option share-rw. */
export function deviceLock(writable: boolean, shareRw: boolean): LockMode {
  return {
    ...commandLock(writable),
    shared: shareRw ? ALL_PERMISSIONS : ALL_PERMISSIONS & ~Permission.write,
  };
}

/** Of a raw image below an overlay that a guest or a job uses. */
export const BACKING_LOCK: LockMode = { held: Permission.consistentRead, shared: NOT_TO_CHANGE };

/** While a file is created or overwritten by a new image. */
export const CREATE_LOCK: LockMode = {
  held: Permission.write | Permission.resize,
  shared: ALL_PERMISSIONS & ~Permission.resize,
};

function bytesOf(mask: number, base: number): number[] {
  return NAMES.flatMap((_, n) => ((mask & (1 << n)) === 0 ? [] : [base + n]));
}

function lockBytes(mode: LockMode): number[] {
  return [...bytesOf(mode.held, HELD_BASE), ...bytesOf(ALL_PERMISSIONS & ~mode.shared, NOT_SHARED_BASE)];
}

/**
 * The locks of one open file description. *Thread:* any, one at a time. *May block:* for one system call per byte. They
 * end with `release`, or when the description's last descriptor is closed, so also when the process is killed.
 */
export class ImageLock {
  readonly #files: HostFiles;
  readonly #fd: number;
  readonly #filename: string;
  #mode = UNLOCKED;
  #supported: boolean | undefined;

  constructor(fd: number, filename: string, files = hostFiles()) {
    this.#fd = fd;
    this.#filename = filename;
    this.#files = files;
  }

  get mode(): LockMode {
    return this.#mode;
  }

  /** Whether this host and the file's file system have such locks (QEMU's `locking=auto` does without otherwise). */
  get supported(): boolean {
    this.#supported ??= this.#probe();
    return this.#supported;
  }

  /**
   * Changes to `mode`. Throws EAGAIN with QEMU's text when somebody else's locks forbid it; the lock is then as it was.
   * Does nothing where locks are not supported.
   */
  acquire(mode: LockMode): void {
    if (!this.supported) return;
    const before = lockBytes(this.#mode);
    const after = lockBytes(mode);
    const added = after.filter((byte) => !before.includes(byte));
    try {
      // taken first and looked at then: of two that come at once at least one sees the other
      this.#files.setByteLocks(this.#fd, added, []);
      this.#refuseConflicts(mode);
    } catch (error) {
      this.#files.setByteLocks(this.#fd, [], added);
      if (!(error instanceof SystemError)) throw error;
      throw new BlockError('EAGAIN', `Failed to lock byte: ${error.message}`, { cause: error });
    }
    const removed = before.filter((byte) => !after.includes(byte));
    this.#files.setByteLocks(this.#fd, [], removed);
    this.#mode = mode;
  }

  release(): void {
    this.acquire(UNLOCKED);
  }

  #probe(): boolean {
    try {
      this.#files.findLocked(this.#fd, [0]);
      return true;
    } catch (error) {
      if (error instanceof SystemError) return false;
      throw error;
    }
  }

  #refuseConflicts(mode: LockMode): void {
    const refused = this.#files.findLocked(this.#fd, bytesOf(mode.held, NOT_SHARED_BASE));
    if (refused !== undefined) {
      throw this.#error(`Failed to get "${NAMES[refused - NOT_SHARED_BASE] ?? ''}" lock`);
    }
    const held = this.#files.findLocked(this.#fd, bytesOf(ALL_PERMISSIONS & ~mode.shared, HELD_BASE));
    if (held !== undefined) throw this.#error(`Failed to get shared "${NAMES[held - HELD_BASE] ?? ''}" lock`);
  }

  #error(what: string): BlockError {
    return new BlockError('EAGAIN', `${what}\nIs another process using the image [${this.#filename}]?`);
  }
}
