/**
 * Bare-metal programs for what needs kernel mode: each case's result is written down from the manual and checked on
 * smp86 and, line by line, on native QEMU where there is one. Where QEMU 7.2 differs from the manual the expectations
 * say so.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { assemble, binaryPath, hasNasm, sourceNames } from './build.ts';
import { type Expectation, programNames, readExpectation } from './expectations.ts';
import { type BareResult, hasQemu, runQemu, runSmp86 } from './run.ts';

const TIMEOUT_MS = 240_000;

function textOf(result: BareResult): string {
  return `${result.output.replaceAll('\r', '')}exit ${result.status}\n`;
}
function expectedText(lines: readonly string[], status: number): string {
  return [...lines, `exit ${status}`, ''].join('\n');
}
/** QEMU's output with lines that may be anything taken as expected. */
function comparable(output: string, e: Expectation): string {
  const lines = output.split('\n');
  e.qemuLines.forEach((line, i) => {
    if (line === undefined && i < lines.length) lines[i] = e.lines[i];
  });
  return lines.join('\n');
}

if (!hasNasm) console.log('bare-metal programs are not compared with their sources: no nasm');
if (!hasQemu) console.log('bare-metal programs are not run on QEMU: no qemu-system-x86_64');

test('every program has its expectations', () => {
  expect(sourceNames().filter((n) => n !== 'litmus')).toEqual(programNames());
});

describe.each(programNames())('%s', (name) => {
  const e = readExpectation(name);

  test.runIf(hasNasm)('the binary belongs to the source', () => {
    expect(assemble(name).equals(readFileSync(binaryPath(name)))).toBe(true);
  });

  // cross-code.test.ts runs that one, with several numbers of vCPUs
  test.runIf(name !== 'cross-code')(
    'smp86 does what the manual says',
    async () => {
      const result = await runSmp86(binaryPath(name), e.options, TIMEOUT_MS);
      expect(textOf(result)).toBe(expectedText(e.lines, e.status));
    },
    TIMEOUT_MS + 10_000,
  );

  test.runIf(hasQemu && e.qemuSkip === undefined)(
    'native QEMU agrees',
    async () => {
      const result = await runQemu(binaryPath(name), e.qemuOptions, TIMEOUT_MS);
      const lines = e.qemuLines.map((line, i) => line ?? e.lines[i]);
      expect(comparable(textOf(result), e)).toBe(expectedText(lines, e.status));
    },
    TIMEOUT_MS + 10_000,
  );
});

describe.each([
  ['thread=single', ['exc64', 'irq', 'smc', 'soak', 'strings']],
  ['jit=on', ['exc64', 'irq', 'page64', 'smc', 'smp', 'smp-code', 'soak', 'strings', 'syscall64']],
] as const)('-accel tcg,%s', (accel, names) => {
  test.each(names)(
    '%s',
    async (name) => {
      const e = readExpectation(name);
      const result = await runSmp86(binaryPath(name), [...e.options, '-accel', `tcg,${accel}`], TIMEOUT_MS);
      expect(textOf(result)).toBe(expectedText(e.lines, e.status));
    },
    TIMEOUT_MS + 10_000,
  );
});
