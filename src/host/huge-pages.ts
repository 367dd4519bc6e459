/** Large pages for memory that is used all over, as QEMU asks for them for guest RAM. */
import { loadFfi } from './ffi.ts';

/** madvise(2), Linux. */
const MADV_HUGEPAGE = 14;
const PAGE = 4096n;

const LIBC = { madvise: { return: 'int32', arguments: ['uint64', 'uint64', 'int32'] } } as const;

/**
 * Asks the host to back a buffer with huge pages, so that a guest's accesses need fewer of its TLB entries. A hint: where
 * Node has no `node:ffi`, or the host no such pages, nothing changes. *Thread:* any.
 */
export function adviseHugePages(buffer: SharedArrayBuffer): void {
  if (process.platform !== 'linux') return;
  const ffi = loadFfi();
  if (ffi === undefined) return;
  try {
    const { functions } = ffi.dlopen(null, LIBC);
    const start = ffi.getRawPointer(new Uint8Array(buffer));
    const first = (start + PAGE - 1n) & -PAGE;
    functions.madvise(first, start + BigInt(buffer.byteLength) - first, MADV_HUGEPAGE);
  } catch {
    // Node's permission model forbids it
  }
}
