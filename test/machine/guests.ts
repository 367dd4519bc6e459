/** Small guests as bytes: multiboot kernels in 32-bit protected mode, put together from a few instructions. */

const BASE = 0x100000;
const HEADER = 0x20;
const MAGIC = 0x1badb002;
/** The header has the addresses. */
const FLAGS = 0x10000;

export const COM1 = 0x3f8;
/** RAM that no guest here is loaded to: zero at power-on, kept over a reset. */
export const SPARE = 0x90000;

type Code = readonly number[];

const u16 = (value: number): Code => [value & 255, (value >> 8) & 255];
const u32 = (value: number): Code => [...u16(value), ...u16(value >>> 16)];

export const outb = (port: number, value: number): Code => [0x66, 0xba, ...u16(port), 0xb0, value, 0xee];
/** Writes AL. */
export const outAl = (port: number): Code => [0x66, 0xba, ...u16(port), 0xee];
export const print = (text: string): Code => [...text].flatMap((c) => outb(COM1, c.charCodeAt(0)));
export const HLT_FOREVER: Code = [0xfa, 0xf4, 0xeb, 0xfd];
export const SPIN: Code = [0xfa, 0xeb, 0xfe];
/** An empty IDT, then a breakpoint: its #GP and the double fault find no handler. */
export const TRIPLE_FAULT: Code = [0x0f, 0x01, 0x1d, ...u32(SPARE + 0x100), 0xcc];
/** Through the keyboard controller. */
export const RESET: Code = [...outb(0x64, 0xfe), ...HLT_FOREVER];
/** ACPI S5: a word to PM1a_CNT. */
export const POWER_OFF: Code = [
  0x66,
  0xba,
  ...u16(0x604),
  0x66,
  0xb8,
  ...u16(0x2000),
  0x66,
  0xef,
  ...HLT_FOREVER,
];
/** Counts in RAM that a reset keeps, and prints the count as a digit. */
export const COUNT_BOOTS: Code = [
  ...[0xff, 0x05, ...u32(SPARE)], // inc dword [SPARE]
  ...[0xa0, ...u32(SPARE)], // mov al, [SPARE]
  ...[0x04, 0x30], // add al, '0'
  ...outAl(COM1),
];
/** If the count of boots is `n`, the code. */
export const onBoot = (n: number, code: Code): Code => [
  ...[0x83, 0x3d, ...u32(SPARE), n], // cmp dword [SPARE], n
  ...[0x0f, 0x85, ...u32(code.length)], // jne over
  ...code,
];
/** Sends back what comes in on COM1. */
export const ECHO: Code = [
  ...[0x66, 0xba, ...u16(COM1 + 5), 0xec, 0xa8, 0x01, 0x74, 0xf7], // until (LSR & 1)
  ...[0x66, 0xba, ...u16(COM1), 0xec, 0xee, 0xeb, 0xef],
];
/** Prints without end. */
export const CHATTER: Code = [0xb0, 0x78, 0x66, 0xba, ...u16(COM1), 0xee, 0xeb, 0xfd];
/** mov eax, [address] */
export const read = (address: number): Code => [0xa1, ...u32(address)];
/** mov byte [address], value */
export const writeByte = (address: number, value: number): Code => [0xc6, 0x05, ...u32(address), value];
/** jmp address */
export const jumpTo = (address: number): Code => [0xb8, ...u32(address), 0xff, 0xe0];

/** Where code lies that `kernel` puts after `before`. */
export function addressAfter(...before: readonly Code[]): number {
  return BASE + HEADER + before.flat().length;
}

export function kernel(...code: Code[]): Uint8Array {
  const body = code.flat();
  const end = BASE + HEADER + body.length;
  const words = [MAGIC, FLAGS, -(MAGIC + FLAGS), BASE, BASE, end, end, BASE + HEADER];
  return Uint8Array.from([...words.flatMap(u32), ...body]);
}
