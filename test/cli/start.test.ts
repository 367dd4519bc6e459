import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { assembleEmbedded } from '../../src/cli/guest/embedded/build.ts';
import { EMBEDDED_KERNEL, EMBEDDED_SUCCESS } from '../../src/cli/guest/embedded/index.ts';
import { parseOptions } from '../../src/cli/options.ts';
import { parseStart, startArguments } from '../../src/cli/start.ts';

function installed(program: string, argument: string): boolean {
  return spawnSync(program, [argument]).status === 0;
}

test('npm start has a Debian guest and a few CPUs by default', () => {
  const options = parseStart([])!;
  expect(options).toMatchObject({ guest: 'debian', memory: '512M', append: '' });
  expect(Number(options.smp)).toBeGreaterThanOrEqual(1);
  expect(Number(options.smp)).toBeLessThanOrEqual(4);
});

test('the embedded guest becomes a command line of smp86', async () => {
  const args = [
    '--guest',
    'embedded',
    '--smp',
    '3',
    '--memory',
    '64M',
    '--append',
    'limit=5',
    '--',
    '-d',
    'int',
  ];
  const options = parseOptions(await startArguments(parseStart(args)!));
  expect(options).toMatchObject({ kernel: EMBEDDED_KERNEL, append: 'limit=5', memory: 64 * 2 ** 20 });
  expect(options).toMatchObject({ smp: { cpus: 3 }, log: { items: ['int'] }, serial: [{ type: 'stdio' }] });
});

test('--run becomes a word of the kernel command line', () => {
  expect(parseStart(['--run', 'uname -a', '--append', 'quiet'])!.append).toBe('quiet smp86.run=dW5hbWUgLWE=');
});

test.each([
  [
    ['--guest', 'bsd'],
    '--guest bsd: must be one of debian, debian-generic, debian-i386, debian-i386-nopae, embedded',
  ],
  [['--wrong'], '--wrong: unknown option (see --help)'],
  [['--smp'], "--smp: Option '--smp <value>' argument missing"],
  [['--guest', 'embedded', '--run', 'ls'], '--run ls: the embedded guest has no shell'],
])('npm start %j is refused in one line', (args, message) => {
  expect(() => parseStart(args)).toThrow(expect.objectContaining({ name: 'OptionError', message }));
});

test('--help asks for the usage', () => {
  expect(parseStart(['--help'])).toBeUndefined();
});

test('the command ends with status 1 and one line for a mistake, 0 for help', () => {
  const command = (...args: string[]) =>
    spawnSync(process.execPath, [new URL('../../src/cli/smp86.ts', import.meta.url).pathname, ...args], {
      encoding: 'utf8',
    });
  expect(command('-m', '0')).toMatchObject({ status: 1, stdout: '', stderr: 'smp86: -m 0: at least 2M\n' });
  expect(command()).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^smp86: -kernel: missing [^\n]*\n$/),
  });
  expect(command('-help')).toMatchObject({ status: 0, stderr: '' });
});

test.runIf(installed('nasm', '-v'))(
  'the committed embedded guest is what its source assembles to',
  async () => {
    expect((await assembleEmbedded()).equals(readFileSync(EMBEDDED_KERNEL))).toBe(true);
  },
);

test.runIf(installed('qemu-system-x86_64', '-version')).each([1, 2, 4])(
  'the embedded guest starts %i CPUs under QEMU, checks its totals and powers off',
  (cpus) => {
    const args = ['-accel', 'tcg', '-smp', String(cpus), '-m', '32', '-kernel', EMBEDDED_KERNEL];
    args.push(
      '-append',
      'limit=20000',
      '-display',
      'none',
      '-serial',
      'stdio',
      '-monitor',
      'none',
      '-no-reboot',
    );
    const result = spawnSync('qemu-system-x86_64', args, { encoding: 'utf8', timeout: 20_000 });
    expect(result.status).toBe(0);
    expect(result.stdout).toContain(`smp86 embedded guest: ${cpus} CPUs`);
    expect(result.stdout.match(/^cpu \d+ \(apic \d+\): /gm)).toHaveLength(cpus);
    expect(result.stdout).toContain('2262 primes below 20000');
    expect(result.stdout).toContain(EMBEDDED_SUCCESS);
  },
  25_000,
);
