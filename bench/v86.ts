/**
 * v86, a 32-bit PC emulator in JavaScript, as another emulator for the 32-bit bench guests. It is fetched from the npm
 * registry into the cache when it is first asked for.
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defaultCacheDirectory } from '../src/cli/guest/cache.ts';
import type { PreparedGuest } from '../src/cli/guest/prepare.ts';
import { lastErrorLine, run } from '../src/cli/guest/process.ts';
import { type GuestConsole, startEmulator } from '../test/tools/linux-guest.ts';

export const V86_VERSION = '0.5.462';

/** The folder with its files. */
async function fetchV86(): Promise<string> {
  const directory = join(defaultCacheDirectory(), `v86-${V86_VERSION}`);
  const build = join(directory, 'node_modules/v86/build');
  if (!existsSync(join(build, 'libv86.mjs'))) {
    await mkdir(directory, { recursive: true });
    const args = ['install', '--no-audit', '--no-fund', '--prefix', directory, `v86@${V86_VERSION}`];
    const result = await run('npm', args);
    if (result.status !== 0) throw new Error(`npm install v86: ${lastErrorLine(result)}`);
  }
  return build;
}

/**
 * Starts it with a Linux kernel, in a process of its own (`v86-process.ts`): in this one it would share the heap and its collector
 * with smp86, and its idle guest, which takes 0.3 of a core, could not be frozen.
 */
export async function startV86(
  guest: PreparedGuest,
  append: string,
  received: (bytes: Uint8Array) => void,
): Promise<GuestConsole> {
  const build = await fetchV86();
  const script = fileURLToPath(new URL('v86-process.ts', import.meta.url));
  const cmdline = `${guest.append} ${append}`.trim();
  return startEmulator(process.execPath, [script, build, guest.kernel, guest.initrd, cmdline], received);
}
