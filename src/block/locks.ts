/**
 * Who may use an image file for what at the same time, by QEMU's rules: each user holds permissions, and shares others:
 * tells which ones anybody else may hold meanwhile. `src/host` keeps them as byte locks that QEMU sees.
 */

/** What one may do with a file. Bits of a mask; bit n is byte n. */
export const Permission = {
  consistentRead: 1,
  write: 2,
  /** Writes that change no content (copying on read). */
  writeUnchanged: 4,
  resize: 8,
} as const;

export const ALL_PERMISSIONS = 15;

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

/** Of a raw image below an overlay that a guest uses. */
export const BACKING_LOCK: LockMode = { held: Permission.consistentRead, shared: NOT_TO_CHANGE };

/** Of an external data file. `sharesWrite`: others may write the disk. */
export function dataFileLock(writable: boolean, sharesWrite: boolean): LockMode {
  const { held } = commandLock(writable, writable);
  return { held, shared: ALL_PERMISSIONS & ~Permission.resize & ~(sharesWrite ? 0 : Permission.write) };
}

/** While a file is created or overwritten by a new image. */
export const CREATE_LOCK: LockMode = {
  held: Permission.write | Permission.resize,
  shared: ALL_PERMISSIONS & ~Permission.resize,
};
