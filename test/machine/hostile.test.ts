/** Guests that do what no guest should: the machine lives, and can be ended. */
import { expect, test } from 'vitest';
import { Machine, type MachineCreateOptions } from '../../src/index.ts';
import { COUNT_BOOTS, jumpTo, kernel, print, SPARE, SPIN } from './guests.ts';

const u32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 255);

/** AL = 37 times the number of boots: another value each time. */
const VALUE = [0xa0, ...u32(SPARE), 0xb1, 37, 0xf6, 0xe1];
/** Writes AL to every port, and reads it back. */
const ALL_PORTS = [
  ...[0x88, 0xc3, 0x31, 0xd2], // mov bl, al; xor edx, edx
  ...[0x88, 0xd8, 0xee, 0xec, 0x42], // next: mov al, bl; out dx, al; in al, dx; inc edx
  ...[0x81, 0xfa, ...u32(0x10000)], // cmp edx, 10000h
  ...[0x72, 0xf3], // jb next
];
/** Writes EAX, made of AL, to `count` places `step` apart, and reads them back. */
const memory = (from: number, count: number, step: number): number[] => [
  ...[0x69, 0xc0, ...u32(0x01010101)], // imul eax, eax, 01010101h
  ...[0xbf, ...u32(from), 0xb9, ...u32(count)], // mov edi, from; mov ecx, count
  ...[0x89, 0x07, 0x8b, 0x1f, 0x81, 0xc7, ...u32(step)], // next: mov [edi], eax; mov ebx, [edi]; add edi, step
  ...[0x49, 0x75, 0xf3], // dec ecx; jnz next
];

/** Runs a guest for a while, over and over when it powers itself off, then ends it. */
async function runFor(ms: number, code: Uint8Array, options: MachineCreateOptions = {}): Promise<Machine> {
  const machine = await Machine.create({
    kernel: code,
    memory: '8M',
    actions: { shutdown: 'pause' },
    ...options,
  });
  machine.on('shutdown', () => {
    void machine
      .reset()
      .then(() => machine.resume())
      .catch(() => {});
  });
  await new Promise((resolve) => setTimeout(resolve, ms));
  await machine.quit();
  // a failed thread would have made it an error
  expect(await machine.exit).toEqual({ reason: 'quit', status: 0 });
  return machine;
}

test('writing to every port', async () => {
  await runFor(3000, kernel(COUNT_BOOTS, VALUE, ALL_PORTS, [0xe9, ...u32(-(ALL_PORTS.length + 5))]));
}, 20_000);

test.each([
  ['interrupt controllers', 0xfec00000, 0x400, 4],
  ['the timer', 0xfed00000, 0x400, 4],
  ['the local APIC', 0xfee00000, 0x400, 4],
  ['unaligned addresses', 0xfebffff1, 0x1000, 0x101],
  ['video memory and ROMs', 0xa0000, 0x6000, 16],
  ['all of the PCI hole', 0xc0000000, 0x3ec00, 0x1000],
])(
  'writing to %s',
  async (_, from, count, step) => {
    const code = memory(from, count, step);
    await runFor(500, kernel(COUNT_BOOTS, VALUE, code, [0x6b, 0xc0, 3], [0xe9, ...u32(-(code.length + 8))]), {
      smp: 2,
    });
  },
  20_000,
);

test.each([
  ['where nothing is', 0xd0000000],
  ['into the local APIC', 0xfee00000],
  ['into video memory', 0xa0000],
  ['past the end of RAM', 0x7ffffe],
  ['to the last byte', 0xffffffff],
  ['into zeros', 0x200000],
])(
  'jumping %s',
  async (_, to) => {
    await runFor(400, kernel(print('x'), jumpTo(to)));
  },
  20_000,
);

test('a stack in device memory', async () => {
  // mov esp, fee00400h; again: push eax; pop ebx; jmp again
  await runFor(400, kernel([0xbc, ...u32(0xfee00400), 0x50, 0x5b, 0xeb, 0xfc]));
});

test('filling the serial port while nobody reads, with interrupts off', async () => {
  await runFor(400, kernel([0xfa, 0xb0, 0x78, 0x66, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xfd]), {
    serial: ['null', 'null'],
  });
  await runFor(200, kernel(SPIN), { smp: 4, accel: 'tcg,thread=single' });
});
