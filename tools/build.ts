/**
 * Makes `dist/`, what the package consists of: JavaScript and type declarations in the layout of the sources, so
 * that paths between files are the same in both. The shared package becomes part of it: `npm install` of the
 * package needs no second one. `smp86 img` becomes one file: its commands are short, and to find and load 70 modules took
 * as long as to copy 100 MB.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DIST = join(ROOT, 'dist');
const SHARED_IMPORT = /(['"])@smp86\/atomics-sync\1/g;
const SOURCE_IMPORT = /(\bfrom |\bimport\(|\bimport )(['"])(\.[^'"]*)\.ts\2/g;
const SHARED_ENTRY = join(DIST, 'shared/src/index.js');
/** What is neither compiled nor left out. */
const RESOURCES = /\.(bin|sh)$/;

function files(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

function compile(): void {
  const tsc = join(ROOT, 'node_modules/.bin/tsc');
  const result = spawnSync(tsc, ['-p', join(ROOT, 'tools/tsconfig.build.json')], { stdio: 'inherit' });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) process.exit(1);
}

/** Imports of the shared package by relative path; in declarations, which the compiler leaves alone, of `.js` files. */
function link(path: string): void {
  const target = relative(dirname(path), SHARED_ENTRY).split(sep).join('/');
  const shared = target.startsWith('.') ? target : `./${target}`;
  const text = readFileSync(path, 'utf8');
  let linked = text.replace(SHARED_IMPORT, (_, quote: string) => quote + shared + quote);
  if (path.endsWith('.d.ts')) linked = linked.replace(SOURCE_IMPORT, '$1$2$3.js$2');
  if (linked !== text) writeFileSync(path, linked);
}

const IMG = join(DIST, 'src/cli/img');
/** Files of `smp86 img` that are loaded by name. */
const IMG_KEPT = /^(img|compress-task)\./;
/** By `require`: an import of a module of Node reads all its properties, and so loads what they stand for. */
const IMG_LOADER = `import { createRequire } from 'node:module';

export const { runImg } = createRequire(import.meta.url)('./img.cjs');
`;

async function bundleImg(): Promise<void> {
  const entry = join(IMG, 'img.js');
  const bundle = await rolldown({
    input: entry,
    platform: 'node',
    external: [/^node:/, 'piscina'],
    onLog(level, log) {
      if (level === 'warn') throw new Error(log.message);
    },
  });
  await bundle.write({ file: join(IMG, 'img.cjs'), format: 'cjs', codeSplitting: false });
  await bundle.close();
  writeFileSync(entry, IMG_LOADER);
  for (const name of readdirSync(IMG)) if (!IMG_KEPT.test(name)) rmSync(join(IMG, name));
}

rmSync(DIST, { recursive: true, force: true });
compile();
for (const path of files(DIST)) if (/\.(js|d\.ts)$/.test(path)) link(path);
for (const path of files(join(ROOT, 'src')).filter((name) => RESOURCES.test(name))) {
  const to = join(DIST, relative(ROOT, path));
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(path, to);
}
await bundleImg();
