/** `struct flock` of 64-bit Linux, and the commands that take it (fcntl(2), "Open file description locks"). */

export const F_OFD_GETLK = 36;
export const F_OFD_SETLK = 37;
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;

export const FLOCK_BYTES = 32;
const L_TYPE = 0;
const L_WHENCE = 2;
const L_START = 8;
const L_LEN = 16;
const L_PID = 24;
const SEEK_SET = 0;
const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

export function flockType(flock: DataView): number {
  return flock.getInt16(L_TYPE, LITTLE_ENDIAN);
}

/** One byte at `offset`. */
export function setFlock(flock: DataView, type: number, offset: number): void {
  flock.setInt16(L_TYPE, type, LITTLE_ENDIAN);
  flock.setInt16(L_WHENCE, SEEK_SET, LITTLE_ENDIAN);
  flock.setBigInt64(L_START, BigInt(offset), LITTLE_ENDIAN);
  flock.setBigInt64(L_LEN, 1n, LITTLE_ENDIAN);
  flock.setInt32(L_PID, 0, LITTLE_ENDIAN); // must be 0 for these locks
}

/** 64-bit Linux has one layout everywhere. */
export function hasFlock(): boolean {
  return (
    process.platform === 'linux' &&
    ['x64', 'arm64', 'riscv64', 'loong64', 'ppc64', 's390x'].includes(process.arch)
  );
}
