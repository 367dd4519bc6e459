/** -d in_asm, op, exec, mmu, nochain, hotblocks, jit and -dfilter, on a small program. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Machine } from '../../src/machine/machine.ts';
import type { LogItem, LogRange } from '../../src/machine/machine-options.ts';
import { addressAfter, kernel, POWER_OFF, print } from './guests.ts';

const TURNS = 5;
// mov eax, cr0; mov cr0, eax (nothing changes); xor ebx, ebx
const BEFORE = [0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0, 0x31, 0xdb];
// mov ecx, TURNS; loop: add ebx, [esp+ecx*4+0x12345678]; dec ecx; jnz loop
const LOOP = [
  ...[0xb9, TURNS, 0, 0, 0],
  ...[0x03, 0x9c, 0x8c, 0x78, 0x56, 0x34, 0x12],
  ...[0x49, 0x75, 0xf6],
];
const CODE = kernel(BEFORE, LOOP, print('x'), POWER_OFF);
const START = addressAfter();
const LOOP_AT = addressAfter(BEFORE);
const BODY_AT = LOOP_AT + 5;

async function logOf(items: readonly LogItem[], filter?: readonly LogRange[]): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'smp86-log-'));
  try {
    const file = join(directory, 'log');
    await using machine = await Machine.create({
      kernel: CODE,
      memory: '8M',
      log: { items, file, ...(filter === undefined ? {} : { filter }) },
    });
    expect(await machine.exit).toMatchObject({ reason: 'shutdown' });
    return readFileSync(file, 'latin1');
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
const traces = (log: string): number[] =>
  Array.from(
    log.matchAll(/^Trace 0: 0x[0-9a-f]{8} \[0{16}\/([0-9a-f]{16})\/[0-9a-f]{8}\/0{8}\] $/gm),
    ([, pc]) => parseInt(pc, 16),
  );
const hex = (address: number): string => address.toString(16).padStart(8, '0');

test('in_asm shows each block once, disassembled', async () => {
  const log = await logOf(['in_asm']);
  expect(log).toContain(
    [
      '----------------',
      'IN: ',
      `0x${hex(START)}:  0f 20 c0                 mov    eax,cr0`,
      `0x${hex(START + 3)}:  0f 22 c0                 mov    cr0,eax`,
    ].join('\n'),
  );
  const body = `0x${hex(BODY_AT)}:  03 9c 8c 78 56 34 12     add    ebx,DWORD PTR [esp+ecx*4+0x12345678]\n`;
  // as part of what begins before it, and as what is jumped to
  expect(log.split(body).length - 1).toBeLessThanOrEqual(2);
  expect(log).toContain(`${body}0x${hex(BODY_AT + 7)}:  49                       dec    ecx\n`);
  expect(log).toContain(`jne    0x${BODY_AT.toString(16)}\n`);
});

test('op shows the records', async () => {
  const log = await logOf(['op']);
  expect(log).toContain(`OP:\n\n ---- ${hex(START).padStart(16, '0')}\n helper mov_from_cr,`);
  expect(log).toMatch(/\n address \[rsp\+rcx\*4\+0x12345678\].*\n add\.4\.rm rbx,\[addr\]\n/);
  expect(log).toMatch(/\n mov\.4\.ri rcx,\$0x5\n/);
});

test('exec shows what the loop of the vCPU enters, with nochain every jump', async () => {
  const chained = traces(await logOf(['exec']));
  expect(chained[0]).toBe(START);
  expect(chained.filter((pc) => pc === BODY_AT).length).toBeLessThan(TURNS - 1);
  const all = traces(await logOf(['exec', 'nochain']));
  expect(all[0]).toBe(START);
  // the first turn comes from before it
  expect(all.filter((pc) => pc === BODY_AT).length).toBe(TURNS - 1);
});

test('hotblocks counts every jump to a block', async () => {
  const log = await logOf(['hotblocks']);
  expect(log).toMatch(/^collected \d+ entries in the hash table\npc, ecount\n(0x[0-9a-f]{16}, \d+\n)+$/);
  expect(log).toContain(`0x${hex(START).padStart(16, '0')}, 1\n`);
  expect(log).toContain(`0x${hex(BODY_AT).padStart(16, '0')}, ${TURNS - 1}\n`);
});

test('mmu shows writes of control registers', async () => {
  expect(await logOf(['mmu'])).toBe('CR0 update: CR0=0x00000011\n');
});

test('a filter leaves out code that is elsewhere', async () => {
  const first = BigInt(BODY_AT);
  const all = await logOf(['in_asm', 'op', 'exec', 'nochain']);
  const some = await logOf(['in_asm', 'op', 'exec', 'nochain'], [{ first, last: first }]);
  expect(some.length).toBeLessThan(all.length);
  expect(new Set(traces(some))).toEqual(new Set([BODY_AT]));
  for (const [, at] of some.matchAll(/^IN: \n0x([0-9a-f]+):/gm)) expect(parseInt(at, 16)).toBe(BODY_AT);
  expect(await logOf(['in_asm', 'exec'], [{ first: 0n, last: 1n }])).toBe('');
});

test('jit shows at the end what tier 1 did', async () => {
  const log = await logOf(['jit']);
  expect(log).toMatch(/^Translation buffer state:\ndecoded code size +[1-9]\d*\/\d+\n/);
  expect(log).toMatch(/\nregions compiled +0 \(0 instructions\)\n/);
});
