/**
 * Assembles embedded.asm into embedded.bin, which is committed beside it so that only a change of the
 * source needs nasm: `node src/cli/guest/embedded/build.ts`.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { lastErrorLine, run } from '../process.ts';

const SOURCE = fileURLToPath(new URL('embedded.asm', import.meta.url));
const BINARY = fileURLToPath(new URL('embedded.bin', import.meta.url));

/** The assembled program. *Errors:* GuestError when nasm is missing, Error when the source is wrong. */
export async function assembleEmbedded(): Promise<Buffer> {
  const directory = mkdtempSync(join(tmpdir(), 'smp86-nasm-'));
  try {
    const output = join(directory, 'embedded.bin');
    const result = await run('nasm', ['-f', 'bin', '-o', output, SOURCE]);
    if (result.status !== 0) throw new Error(lastErrorLine(result));
    return readFileSync(output);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const data = await assembleEmbedded();
  writeFileSync(BINARY, data);
  console.log(`${BINARY}: ${data.length} bytes`);
}
