/**
 * v86, a 32-bit PC emulator in JavaScript, as another emulator for the 32-bit bench guests. It is fetched from the npm
 * registry into the cache when it is first asked for; its BIOS is Debian's SeaBIOS.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { defaultCacheDirectory } from '../src/cli/guest/cache.ts';
import type { PreparedGuest } from '../src/cli/guest/prepare.ts';
import { lastErrorLine, run } from '../src/cli/guest/process.ts';
import type { GuestConsole } from '../test/tools/linux-guest.ts';

export const V86_VERSION = '0.5.462';
const BIOS = '/usr/share/seabios';

/** What is used of it. */
interface V86 {
  add_listener(event: 'serial0-output-byte', listener: (byte: number) => void): void;
  add_listener(event: 'emulator-stopped', listener: () => void): void;
  serial0_send(text: string): void;
  destroy(): Promise<void>;
}
type V86Constructor = new (options: object) => V86;

async function load(): Promise<{ V86: V86Constructor; wasm: string }> {
  const directory = join(defaultCacheDirectory(), `v86-${V86_VERSION}`);
  const build = join(directory, 'node_modules/v86/build');
  if (!existsSync(join(build, 'libv86.mjs'))) {
    await mkdir(directory, { recursive: true });
    const args = ['install', '--no-audit', '--no-fund', '--prefix', directory, `v86@${V86_VERSION}`];
    const result = await run('npm', args);
    if (result.status !== 0) throw new Error(`npm install v86: ${lastErrorLine(result)}`);
  }
  const { V86 } = (await import(pathToFileURL(join(build, 'libv86.mjs')).href)) as { V86: V86Constructor };
  return { V86, wasm: join(build, 'v86.wasm') };
}

/** Starts it with a Linux kernel. It runs in this thread. */
export async function startV86(
  guest: PreparedGuest,
  append: string,
  received: (bytes: Uint8Array) => void,
): Promise<GuestConsole> {
  const { V86, wasm } = await load();
  const file = async (path: string): Promise<{ buffer: ArrayBuffer }> => {
    const bytes = await readFile(path);
    return { buffer: new Uint8Array(bytes).buffer };
  };
  const emulator = new V86({
    wasm_path: wasm,
    bios: await file(`${BIOS}/bios.bin`),
    vga_bios: await file(`${BIOS}/vgabios-stdvga.bin`),
    bzimage: await file(guest.kernel),
    initrd: await file(guest.initrd),
    cmdline: `${guest.append} ${append}`.trim(),
    memory_size: 512 * 1024 * 1024,
    vga_memory_size: 8 * 1024 * 1024,
    acpi: false,
    autostart: true,
    disable_speaker: true,
  });
  const ended = Promise.withResolvers<{ reason: string; status: number | null }>();
  emulator.add_listener('serial0-output-byte', (byte) => received(Uint8Array.of(byte)));
  return {
    write: (text) => emulator.serial0_send(text),
    exit: ended.promise,
    kill: async () => {
      await emulator.destroy();
      ended.resolve({ reason: 'killed', status: null });
    },
  };
}
