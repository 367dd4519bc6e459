/**
 * Locks of image files, as QEMU takes them, so that smp86, QEMU and qemu-img exclude each other. Permission n is held: a
 * read lock on byte 100 + n of the file. It is not shared: a read lock on byte 200 + n. A lock of somebody else on the
 * opposite byte is a conflict. (The bytes as `strace qemu-img` shows them.)
 */
import { BlockError } from '../block/errors.ts';
import { ALL_PERMISSIONS, type LockMode, UNLOCKED } from '../block/locks.ts';
import { type HostFiles, hostFiles } from './host-files.ts';
import { SystemError } from './system-error.ts';

const NAMES = ['consistent read', 'write', 'write unchanged', 'resize'];
const HELD_BASE = 100;
const NOT_SHARED_BASE = 200;

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
