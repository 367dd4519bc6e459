/** qemu-img and qemu-io for tests: the other side of interoperability. */
import { spawnSync } from 'node:child_process';
import { fdatasyncSync, mkdtempSync, readvSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inlineCodec } from '../../src/block/codec.ts';
import type { BlockContext, Codec, SlowCalls } from '../../src/block/node.ts';

/** Whether qemu-img and qemu-io are there; tests that need them are skipped, and say so, where not. */
export const haveQemuTools =
  spawnSync('qemu-img', ['--version']).status === 0 && spawnSync('qemu-io', ['--version']).status === 0;
if (!haveQemuTools) console.warn('qemu-img, qemu-io: not installed; tests against them are skipped');

export interface ToolResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function qemuImg(...args: string[]): ToolResult {
  const { status, stdout, stderr } = spawnSync('qemu-img', args, { encoding: 'utf8' });
  return { status, stdout, stderr };
}

/** Runs qemu-io commands, one after the other. */
export function qemuIo(args: readonly string[], commands: readonly string[]): ToolResult {
  const all = [...args, ...commands.flatMap((command) => ['-c', command])];
  const { status, stdout, stderr } = spawnSync('qemu-io', all, { encoding: 'utf8' });
  return { status, stdout, stderr };
}

/** A directory that `remove` takes away. */
export function temporaryDirectory(): { path(name: string): string; remove(): void } {
  const directory = mkdtempSync(join(tmpdir(), 'smp86-block-'));
  return {
    path: (name) => join(directory, name),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** A context outside a machine; what it warns of is collected. */
export function testContext(): BlockContext & { readonly warnings: string[] } {
  const warnings: string[] = [];
  return { codec: inlineCodec, warn: (text) => warnings.push(text), warnings };
}

/** As `testContext`, but with what block helpers do done later, in any order. */
export function lateContext(random: (below: number) => number): ReturnType<typeof testContext> {
  const later = async (): Promise<void> => {
    for (let turns = random(4); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
  };
  const slowCalls: SlowCalls = {
    active: true,
    read: async (fd, offset, to) => {
      await later();
      const bytes = readvSync(fd, [...to], offset);
      await later();
      return { bytes, took: Infinity };
    },
    datasync: async (fd) => {
      await later();
      fdatasyncSync(fd);
      await later();
    },
  };
  const codec: Codec = {
    compress: (...args) => later().then(() => inlineCodec.compress(...args)),
    decompress: (...args) => later().then(() => inlineCodec.decompress(...args)),
  };
  return { ...testContext(), codec, slowCalls };
}

/** Numbers that look random and are the same for the same seed. */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  const next = () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 0x1_0000_0000;
  };
  // the first numbers of neighbouring seeds are alike
  for (let i = 0; i < 16; i++) next();
  return (below) => Math.floor(next() * below);
}
