import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readBootFiles } from '../../src/machine/boot/files.ts';
import { bzImage, elfImage, multibootHeader } from './images.ts';

const directory = mkdtempSync(join(tmpdir(), 'smp86-files-'));
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, data: Uint8Array | string): string {
  const path = join(directory, name);
  writeFileSync(path, data);
  return path;
}

test('a Linux kernel takes the whole -initrd as one path, commas included', () => {
  const kernel = file('bzImage', bzImage());
  const initrd = file('a,b c', 'data');
  const files = readBootFiles({ kernel, initrd });
  expect(files.kind).toBe('linux');
  expect(Buffer.from(files.initrd!).toString()).toBe('data');
});

test('a multiboot kernel takes -initrd as a list of modules with arguments', () => {
  const payload = new Uint8Array(4096);
  payload.set(multibootHeader(0));
  const kernel = file('mb', elfImage({ payload }));
  const one = file('one', '1');
  const two = file('two', '22');
  const { modules } = readBootFiles({ kernel, initrd: `${one} x=1,${two}` });
  expect(modules!.map((module) => [module.cmdline, module.data.length])).toEqual([
    [`${one} x=1`, 1],
    [two, 2],
  ]);
});

test.each([
  ['a missing kernel', { kernel: '/nowhere/k' }, '-kernel: /nowhere/k: no such file'],
  ['a directory', { kernel: directory }, `-kernel: ${directory}: not a regular file`],
])('%s is one line that names it', (_name, paths, message) => {
  expect(() => readBootFiles(paths)).toThrow(message);
});

test('a missing initrd and a file that is no kernel are named', () => {
  const kernel = file('k', bzImage());
  expect(() => readBootFiles({ kernel, initrd: '/nowhere/i' })).toThrow('-initrd: /nowhere/i: no such file');
  const text = file('text', 'hello');
  expect(() => readBootFiles({ kernel: text })).toThrow(`-kernel: ${text}: not a kernel`);
});
