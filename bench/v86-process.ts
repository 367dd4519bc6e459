/**
 * v86 with a Linux kernel, the serial port at standard input and output. Its BIOS is Debian's SeaBIOS.
 *
 *   node bench/v86-process.ts BUILD KERNEL INITRD CMDLINE
 */
import { Console } from 'node:console';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** What is used of it. */
interface V86 {
  add_listener(event: 'serial0-output-byte', listener: (byte: number) => void): void;
  serial0_send(text: string): void;
}
type V86Constructor = new (options: object) => V86;

const BIOS = '/usr/share/seabios';
const [build, kernel, initrd, cmdline] = process.argv.slice(2);
// what it prints is not the guest's
globalThis.console = new Console(process.stderr);
const { V86 } = (await import(pathToFileURL(join(build, 'libv86.mjs')).href)) as { V86: V86Constructor };
const file = (path: string): { buffer: ArrayBuffer } => ({
  buffer: new Uint8Array(readFileSync(path)).buffer,
});
const emulator = new V86({
  wasm_path: join(build, 'v86.wasm'),
  bios: file(`${BIOS}/bios.bin`),
  vga_bios: file(`${BIOS}/vgabios-stdvga.bin`),
  bzimage: file(kernel),
  initrd: file(initrd),
  cmdline,
  memory_size: 512 * 1024 * 1024,
  vga_memory_size: 8 * 1024 * 1024,
  acpi: false,
  autostart: true,
  disable_speaker: true,
});
emulator.add_listener('serial0-output-byte', (byte) => void process.stdout.write(Uint8Array.of(byte)));
process.stdin.on('data', (bytes) => emulator.serial0_send(bytes.toString('latin1')));
process.stdin.on('end', () => process.exit());
