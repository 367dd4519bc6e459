/** Huge pages for guest RAM: what the kernel says of the mapping. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { loadFfi } from '../../src/host/ffi.ts';
import { adviseHugePages } from '../../src/host/huge-pages.ts';

const BYTES = 16 << 20;

/** Flags of the mapping that holds an address; `hg` is MADV_HUGEPAGE's (proc(5), smaps). */
function flagsAt(address: bigint): string[] {
  let inside = false;
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range !== null) inside = BigInt(`0x${range[1]}`) <= address && address < BigInt(`0x${range[2]}`);
    else if (inside && line.startsWith('VmFlags:')) return line.split(/\s+/).slice(1);
  }
  throw new Error(`no mapping at ${address.toString(16)}`);
}

const ffi = process.platform === 'linux' ? loadFfi() : undefined;

test.skipIf(ffi === undefined)('the whole of a shared memory is asked for (needs node:ffi and Linux)', () => {
  const { buffer } = new WebAssembly.Memory({ initial: BYTES >>> 16, maximum: BYTES >>> 16, shared: true });
  const start = ffi?.getRawPointer(new Uint8Array(buffer)) ?? 0n;
  expect(flagsAt(start)).not.toContain('hg');
  adviseHugePages(buffer as unknown as SharedArrayBuffer);
  expect(flagsAt(start)).toContain('hg');
  expect(flagsAt(start + BigInt(BYTES - 1))).toContain('hg');
});
