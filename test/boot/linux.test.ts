import { expect, test } from 'vitest';
import { BootError, loadKernel, type LoadKernelOptions } from '../../src/machine/boot/index.ts';
import { parseLinuxHeader } from '../../src/machine/boot/linux.ts';
import { bzImage, MIB, pcMap } from './images.ts';

const PARAMS = 0x2000;

function load(options: Partial<LoadKernelOptions> = {}, ramSize = 64 * MIB) {
  const ram = new Uint8Array(ramSize);
  const state = loadKernel({ ram, e820: pcMap(ramSize), kernel: bzImage(), ...options });
  return { ram, state, view: new DataView(ram.buffer) };
}

function errorOf(body: () => unknown): BootError {
  try {
    body();
  } catch (error) {
    if (error instanceof BootError) return error;
    throw error;
  }
  throw new Error('no BootError');
}

test('a 64-bit kernel is placed at its preferred address and entered 0x200 above it in long mode', () => {
  const { ram, state } = load();
  expect(state).toMatchObject({ protocol: 'linux64', mode: 'long64', ip: 16 * MIB + 0x200, eflags: 2 });
  expect(ram[16 * MIB]).toBe(0xcc);
  expect(ram[16 * MIB + 64 * 1024 - 1]).toBe(0xcc);
  expect(ram[16 * MIB + 64 * 1024]).toBe(0);
  expect(state.regs.rsi).toBe(PARAMS);
  expect(state.cr0).toBe(0x8000_0011);
  expect(state.cr4).toBe(0x20);
  expect(state.efer).toBe(0x500);
});

test('the page tables map the first 4 GiB one to one with 2 MiB pages', () => {
  const { state, view } = load();
  const walk = (address: number): number => {
    const entry = (table: number, index: number): number =>
      Number(view.getBigUint64(table + index * 8, true));
    const pml4e = entry(state.cr3, 0);
    const pdpte = entry(pml4e & ~0xfff, Math.floor(address / 2 ** 30));
    const pde = entry(pdpte & ~0xfff, Math.floor(address / 2 ** 21) % 512);
    expect(pml4e & 3).toBe(3);
    expect(pdpte & 3).toBe(3);
    expect(pde & 0x83).toBe(0x83);
    return pde - (pde % 2 ** 21) + (address % 2 ** 21);
  };
  for (const address of [0, 0x12_3456, 0x4000_0000, 0xbfff_ffff, 0xfee0_0020, 0xffff_ffff]) {
    expect(walk(address)).toBe(address);
  }
});

test('the GDT in memory has the descriptors of the segments that are loaded', () => {
  const { state, view } = load();
  expect(state.cs).toMatchObject({ selector: 0x10, base: 0, limit: 0xffff_ffff, attr: 0x00a0_9b00 });
  expect(state.ds).toMatchObject({ selector: 0x18, attr: 0x00c0_9300 });
  for (const segment of [state.cs, state.ds]) {
    const high = view.getUint32(state.gdt.base + segment.selector + 4, true);
    expect(high & 0x00f0_ff00).toBe(segment.attr);
    expect(view.getUint32(state.gdt.base + segment.selector, true)).toBe(0xffff);
  }
  expect(state.gdt.limit).toBe(0x1f);
});

test('a kernel without XLF_KERNEL_64 is entered at its start in protected mode', () => {
  const { state } = load({ kernel: bzImage({ entry64: false }) });
  expect(state).toMatchObject({ protocol: 'linux32', mode: 'protected32', ip: 16 * MIB });
  expect(state).toMatchObject({ cr0: 0x11, cr3: 0, cr4: 0, efer: 0 });
  expect(state.cs).toMatchObject({ selector: 0x10, attr: 0x00c0_9b00 });
});

test('a kernel older than protocol 2.10 is placed at 1 MiB', () => {
  const { state, ram } = load({ kernel: bzImage({ version: 0x204 }) });
  expect(state).toMatchObject({ protocol: 'linux32', ip: MIB });
  expect(ram[MIB]).toBe(0xcc);
});

test('boot_params carry the setup header, the loader type, the memory map and the RSDP', () => {
  const { view, ram } = load({ rsdp: 0xe_0000 });
  expect(view.getUint32(PARAMS + 0x202, true)).toBe(0x5372_6448);
  expect(ram[PARAMS + 0x210]).toBe(0xff);
  expect(view.getBigUint64(PARAMS + 0x70, true)).toBe(0xe_0000n);
  const map = pcMap(64 * MIB);
  expect(ram[PARAMS + 0x1e8]).toBe(map.length);
  map.forEach((entry, i) => {
    expect(Number(view.getBigUint64(PARAMS + 0x2d0 + i * 20, true))).toBe(entry.base);
    expect(Number(view.getBigUint64(PARAMS + 0x2d0 + i * 20 + 8, true))).toBe(entry.length);
    expect(view.getUint32(PARAMS + 0x2d0 + i * 20 + 16, true)).toBe(entry.type);
  });
});

test('what lies before the setup header in the file does not reach boot_params', () => {
  const kernel = bzImage();
  kernel.fill(0xee, 0, 0x1f1);
  const { ram } = load({ kernel });
  expect(ram.subarray(PARAMS, PARAMS + 0x1f1).includes(0xee)).toBe(false);
});

test('the command line is placed with its terminating zero', () => {
  const { ram, view } = load({ append: 'console=ttyS0 quiet' });
  const at = view.getUint32(PARAMS + 0x228, true);
  expect(Buffer.from(ram.subarray(at, at + 20)).toString()).toBe('console=ttyS0 quiet\0');
});

test('a command line as long as the kernel takes is accepted, a longer one refused', () => {
  expect(() => load({ append: 'x'.repeat(2047) })).not.toThrow();
  const error = errorOf(() => load({ append: 'x'.repeat(2048) }));
  expect(error).toMatchObject({ code: 'ERR_BOOT_CMDLINE', option: 'append' });
  expect(error.message).toBe('-append: the command line has 2048 bytes, the kernel takes 2047');
});

test('the initrd lies page-aligned at the top of RAM', () => {
  const initrd = new Uint8Array(5000).fill(0x5a);
  const { ram, view } = load({ initrd });
  const at = view.getUint32(PARAMS + 0x218, true);
  expect(at).toBe(64 * MIB - 8192);
  expect(view.getUint32(PARAMS + 0x21c, true)).toBe(5000);
  expect([ram[at], ram[at + 4999], ram[at + 5000]]).toEqual([0x5a, 0x5a, 0]);
});

test('the initrd lies below initrd_addr_max', () => {
  const kernel = bzImage({ initrdAddrMax: 40 * MIB - 1 });
  const { view } = load({ kernel, initrd: new Uint8Array(4096) });
  expect(view.getUint32(PARAMS + 0x218, true)).toBe(40 * MIB - 4096);
});

test('the initrd avoids reserved ranges of the memory map at the top of RAM', () => {
  const e820 = [...pcMap(64 * MIB), { base: 62 * MIB, length: 2 * MIB, type: 3 }];
  const { view } = load({ e820, initrd: new Uint8Array(4096) });
  expect(view.getUint32(PARAMS + 0x218, true)).toBe(62 * MIB - 4096);
});

test('an initrd that does not fit beside the kernel is refused', () => {
  const error = errorOf(() => load({ initrd: new Uint8Array(50 * MIB) }));
  expect(error).toMatchObject({ code: 'ERR_BOOT_MEMORY', option: 'initrd' });
  expect(error.message).toMatch(/^-initrd: does not fit: 50 MiB .* 64 MiB of RAM$/);
});

test('a kernel that needs more RAM than there is names the sizes', () => {
  const error = errorOf(() => load({}, 16 * MIB));
  expect(error).toMatchObject({ code: 'ERR_BOOT_MEMORY', option: 'm' });
  expect(error.message).toBe('-m: the kernel needs RAM up to 24 MiB, the machine has 16 MiB');
});

test('a random seed becomes a setup_data node', () => {
  const { view, ram } = load({ rngSeed: new Uint8Array(32).fill(9) });
  const at = Number(view.getBigUint64(PARAMS + 0x250, true));
  expect(view.getUint32(at + 8, true)).toBe(9);
  expect(view.getUint32(at + 12, true)).toBe(32);
  expect(ram[at + 16]).toBe(9);
});

test('a setup_data pointer in the file itself is not passed on', () => {
  const kernel = bzImage();
  new DataView(kernel.buffer).setBigUint64(0x250, 0x1234n, true);
  const { view } = load({ kernel });
  expect(view.getBigUint64(PARAMS + 0x250, true)).toBe(0n);
});

test('setup_sects 0 means 4', () => {
  expect(parseLinuxHeader(bzImage({ setupSectors: 0 })).kernelOffset).toBe(5 * 512);
});

test.each([
  ['truncated code', bzImage().subarray(0, 40_000), 'ERR_BOOT_TRUNCATED', /truncated: 40000 bytes/],
  ['truncated header', bzImage().subarray(0, 0x220), 'ERR_BOOT_TRUNCATED', /setup header/],
  ['old protocol', bzImage({ version: 0x201 }), 'ERR_BOOT_FORMAT', /protocol 2\.01 is older/],
  ['zImage', bzImage({ loadflags: 0 }), 'ERR_BOOT_FORMAT', /zImage/],
  ['absurd address', bzImage({ prefAddress: 0xffff_0000 }), 'ERR_BOOT_FORMAT', /bad preferred address/],
  ['address in the tables', bzImage({ prefAddress: 0x2000 }), 'ERR_BOOT_FORMAT', /bad preferred address/],
  ['absurd init_size', bzImage({ initSize: 0xffff_0000 }), 'ERR_BOOT_FORMAT', /bad preferred address/],
  ['huge init_size', bzImage({ initSize: 0x7000_0000 }), 'ERR_BOOT_MEMORY', /needs RAM up to/],
  ['empty file', new Uint8Array(0), 'ERR_BOOT_FORMAT', /empty/],
  ['text', new TextEncoder().encode('hello\n'.repeat(1000)), 'ERR_BOOT_FORMAT', /not a kernel/],
])('%s is refused', (_name, kernel, code, message) => {
  const error = errorOf(() => load({ kernel }));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(message);
  expect(error.message).not.toContain('\n');
});

test('ramSize limits the guest to the beginning of the memory', () => {
  const ram = new Uint8Array(64 * MIB);
  const kernel = bzImage();
  const initrd = new Uint8Array(4096);
  loadKernel({ ram, ramSize: 32 * MIB, e820: pcMap(32 * MIB), kernel, initrd });
  expect(new DataView(ram.buffer).getUint32(PARAMS + 0x218, true)).toBe(32 * MIB - 4096);
});

test('RAM may begin inside a larger shared buffer', () => {
  const base = 3 * 65536;
  const shared = new SharedArrayBuffer(base + 64 * MIB);
  const ram = new Uint8Array(shared, base, 64 * MIB);
  loadKernel({ ram, e820: pcMap(64 * MIB), kernel: bzImage(), append: 'x' });
  expect(new Uint8Array(shared, 0, base).every((byte) => byte === 0)).toBe(true);
  expect(ram[16 * MIB]).toBe(0xcc);
});
