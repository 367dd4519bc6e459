import { expect, test } from 'vitest';
import fc from 'fast-check';
import { splitModules } from '../../src/machine/boot/files.ts';
import { BootError, detectKernel, loadKernel, type LoadKernelOptions } from '../../src/machine/boot/index.ts';
import { bzImage, elfImage, elfNote, MIB, multibootHeader, pcMap, pvhNote } from './images.ts';

function load(kernel: Uint8Array, options: Partial<LoadKernelOptions> = {}, ramSize = 16 * MIB) {
  const ram = new Uint8Array(ramSize).fill(0xa5);
  const state = loadKernel({ ram, e820: pcMap(ramSize), kernel, ...options });
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

function textAt(ram: Uint8Array, at: number): string {
  return Buffer.from(ram.subarray(at, ram.indexOf(0, at))).toString();
}

function withPayload(header: Uint8Array, size = 4096): Uint8Array {
  const payload = new Uint8Array(size).fill(0xcc);
  payload.set(header);
  return payload;
}

test.each([32, 64] as const)(
  'a %i-bit ELF file with a PVH note is entered there with EBX at start info',
  (bits) => {
    const { ram, state, view } = load(
      elfImage({ bits, note: pvhNote(MIB + 16), virtual: 0xc010_0000, memorySize: 8192 }),
      { append: 'a=b', rsdp: 0xe_0000, initrd: new Uint8Array(100).fill(7) },
    );
    expect(state).toMatchObject({
      protocol: 'pvh',
      mode: 'protected32',
      ip: MIB + 16,
      cr0: 0x11,
      cr4: 0,
      eflags: 2,
    });
    expect(state.cs.attr).toBe(0x00c0_9b00);
    expect([ram[MIB], ram[MIB + 4095], ram[MIB + 4096], ram[MIB + 8191]]).toEqual([0xcc, 0xcc, 0, 0]);
    const info = state.regs.rbx!;
    const word = (at: number): number => Number(view.getBigUint64(at, true));
    expect(view.getUint32(info, true)).toBe(0x336e_c578);
    expect(view.getUint32(info + 4, true)).toBe(1);
    expect(textAt(ram, word(info + 24))).toBe('a=b');
    expect(word(info + 32)).toBe(0xe_0000);
    expect(view.getUint32(info + 12, true)).toBe(1);
    const module = word(info + 16);
    expect(word(module + 8)).toBe(100);
    expect(ram[word(module)]).toBe(7);
    const map = word(info + 40);
    expect(view.getUint32(info + 48, true)).toBe(4);
    expect(word(map + 3 * 24)).toBe(MIB);
    expect(word(map + 3 * 24 + 8)).toBe(15 * MIB);
    expect(view.getUint32(map + 3 * 24 + 16, true)).toBe(1);
  },
);

test('notes padded to 8 bytes, and notes before the one wanted, are read', () => {
  const other = elfNote('GNU', 3, new Uint8Array(20), 8);
  const both = new Uint8Array([...other, ...pvhNote(MIB, 8)]);
  expect(load(elfImage({ note: both, noteAlign: 8 })).state.ip).toBe(MIB);
});

test('an ELF file without PVH note or multiboot header says what is missing', () => {
  const error = errorOf(() => load(elfImage({ bits: 64 })));
  expect(error.message).toMatch(/neither a multiboot header nor a PVH note/);
});

test.each([
  ['an entry outside the segments', elfImage({ note: pvhNote(0x500) }), /in no segment/],
  [
    'a segment over video memory',
    elfImage({ note: pvhNote(0xa_0000), physical: 0xa_0000 }),
    /needs .* at 0xa0000/,
  ],
  ['a segment beyond RAM', elfImage({ note: pvhNote(MIB), memorySize: 32 * MIB }), /needs 32 MiB of RAM/],
  ['a segment that wraps', elfImage({ note: pvhNote(MIB), memorySize: 0xffff_ffff }), /needs 4096 MiB/],
  ['less memory than file', elfImage({ note: pvhNote(MIB), memorySize: 100 }), /smaller in memory/],
  ['a truncated file', elfImage({ note: pvhNote(MIB) }).subarray(0, 600), /lies beyond the end/],
])('PVH: %s is refused', (_name, kernel, message) => {
  expect(errorOf(() => load(kernel)).message).toMatch(message);
});

test('a flat multiboot file is loaded by the addresses of its header', () => {
  const kernel = new Uint8Array(8192).fill(0xcc);
  // The header lies at file offset 0x100; what precedes load_addr in the file is not loaded.
  const addresses = [2 * MIB + 0x80, 2 * MIB, 2 * MIB + 0x1000, 2 * MIB + 0x3000, 2 * MIB + 0x40];
  kernel.set(multibootHeader(0x1_0003, addresses), 0x100);
  kernel.fill(0x11, 0, 0x80);
  const { ram, state } = load(kernel);
  expect(state).toMatchObject({ protocol: 'multiboot', ip: 2 * MIB + 0x40 });
  expect(ram[2 * MIB]).toBe(0xcc);
  expect([ram[2 * MIB + 0xfff], ram[2 * MIB + 0x1000], ram[2 * MIB + 0x2fff], ram[2 * MIB + 0x3000]]).toEqual(
    [0xcc, 0, 0, 0xa5],
  );
});

test('the virtual entry of a multiboot ELF file is entered at its physical address', () => {
  const payload = withPayload(multibootHeader(0));
  const kernel = elfImage({ payload, virtual: 0xc010_0000, entry: 0xc010_0020 });
  expect(load(kernel).state.ip).toBe(MIB + 0x20);
  expect(errorOf(() => load(elfImage({ payload, entry: 0x10 }))).message).toMatch(/entry in no segment/);
});

test('multiboot information has memory, command line, map and modules', () => {
  const kernel = elfImage({ payload: withPayload(multibootHeader(3)), entry: MIB + 12 });
  const modules = [
    { data: new Uint8Array(10).fill(1), cmdline: 'one a b' },
    { data: new Uint8Array(5000).fill(2), cmdline: 'two' },
  ];
  const { ram, state, view } = load(kernel, { modules, append: 'x y', kernelName: 'kern' });
  expect(state.regs.rax).toBe(0x2bad_b002);
  expect(state.ip).toBe(MIB + 12);
  const info = state.regs.rbx!;
  const word = (at: number): number => view.getUint32(at, true);
  expect(word(info) & 0x4d).toBe(0x4d);
  expect(word(info + 4)).toBe(639);
  expect(word(info + 8)).toBe(15 * 1024);
  expect(textAt(ram, word(info + 16))).toBe('kern x y');
  expect(word(info + 20)).toBe(2);
  const list = word(info + 24);
  modules.forEach((module, i) => {
    const [start, end, string] = [0, 4, 8].map((offset) => word(list + i * 16 + offset));
    expect(end - start).toBe(module.data.length);
    expect(start % 4096).toBe(0);
    expect(ram[start]).toBe(module.data[0]);
    expect(textAt(ram, string)).toBe(module.cmdline);
  });
  expect(word(info + 44)).toBe(4 * 24);
  const map = word(info + 48);
  expect(word(map)).toBe(20);
  expect(Number(view.getBigUint64(map + 3 * 24 + 4, true))).toBe(MIB);
});

test('a multiboot header wins over a PVH note, and HdrS over both', () => {
  const both = elfImage({ payload: withPayload(multibootHeader(0)), note: pvhNote(MIB) });
  expect(detectKernel(both)).toBe('multiboot');
  const linux = bzImage();
  linux.set(multibootHeader(0), 0x10);
  expect(detectKernel(linux)).toBe('linux');
});

test.each([
  ['64-bit ELF', elfImage({ bits: 64, payload: withPayload(multibootHeader(0)) }), /32-bit ELF/],
  ['unknown requirement', elfImage({ payload: withPayload(multibootHeader(8)) }), /unknown features 0x8/],
  ['header in no ELF file', withPayload(multibootHeader(0)), /not ELF/],
  [
    'load above header',
    withPayload(multibootHeader(0x1_0000, [MIB, MIB + 4, 0, 0, MIB + 4])),
    /above header_addr/,
  ],
  [
    'load before file',
    withPayload(multibootHeader(0x1_0000, [MIB + 4, MIB, 0, 0, MIB])),
    /before the beginning/,
  ],
  ['data beyond file', withPayload(multibootHeader(0x1_0000, [MIB, MIB, 2 * MIB, 0, MIB])), /truncated/],
  ['bss below data', withPayload(multibootHeader(0x1_0000, [MIB, MIB, 0, MIB + 9, MIB])), /bss_end_addr/],
  ['entry outside', withPayload(multibootHeader(0x1_0000, [MIB, MIB, 0, 0, 0x1000])), /entry_addr/],
  [
    'no RAM there',
    withPayload(multibootHeader(0x1_0000, [0xb_0000, 0xb_0000, 0, 0, 0xb_0000])),
    /at 0xb0000/,
  ],
])('multiboot: %s is refused', (_name, kernel, message) => {
  expect(errorOf(() => load(kernel)).message).toMatch(message);
});

test('a module that does not fit is refused', () => {
  const kernel = elfImage({ payload: withPayload(multibootHeader(0)) });
  const modules = [{ data: new Uint8Array(16 * MIB), cmdline: 'big' }];
  expect(errorOf(() => load(kernel, { modules }))).toMatchObject({
    option: 'initrd',
    code: 'ERR_BOOT_MEMORY',
  });
});

test('module lists are split at single commas', () => {
  expect(splitModules('a b c,d')).toEqual(['a b c', 'd']);
  expect(splitModules('a,,b x,c')).toEqual(['a,b x', 'c']);
});

test('a damaged kernel is loaded or refused with one line, and nothing outside RAM changes', () => {
  const ramSize = 32 * MIB;
  const guard = 65536;
  const memory = new Uint8Array(ramSize + 2 * guard).fill(0xa5);
  const ram = memory.subarray(guard, guard + ramSize);
  const kernels = [
    bzImage({ codeSize: 4096 }),
    elfImage({ bits: 64, note: pvhNote(MIB) }),
    elfImage({ note: pvhNote(MIB) }),
    elfImage({ payload: withPayload(multibootHeader(3)) }),
    withPayload(multibootHeader(0x1_0000, [MIB, MIB, 0, 0, MIB])),
  ];
  const damage = fc.array(fc.tuple(fc.nat(0x2ff), fc.integer({ min: 0, max: 255 })), { maxLength: 8 });
  fc.assert(
    fc.property(fc.constantFrom(...kernels), damage, fc.option(fc.nat(20_000)), (original, changes, cut) => {
      const kernel = original.slice(0, cut ?? undefined);
      for (const [at, value] of changes) if (at < kernel.length) kernel[at] = value;
      try {
        const state = loadKernel({ ram, e820: pcMap(ramSize), kernel, initrd: new Uint8Array(5000) });
        for (const { start, size } of state.placed) expect(start + size).toBeLessThanOrEqual(ramSize);
      } catch (error) {
        if (!(error instanceof BootError)) throw error;
        expect(error.message).not.toContain('\n');
      }
    }),
    { numRuns: 1500 },
  );
  expect(memory.subarray(0, guard).every((byte) => byte === 0xa5)).toBe(true);
  expect(memory.subarray(guard + ramSize).every((byte) => byte === 0xa5)).toBe(true);
});
