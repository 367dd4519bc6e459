/**
 * The package as a user gets it: `npm pack`, installed into an empty project somewhere else; the command runs, a
 * TypeScript program type-checks against the declarations and runs, and every dependency is declared.
 * `node test/tools/pack-test.ts`. Needs the registry, or npm's cache, for the package's dependencies.
 */
import { execFileSync, spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import assert from 'node:assert/strict';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TYPES = 'node_modules/@types/node';
// the command is run by the Node that runs this
const env = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}` };
const project = mkdtempSync(join(tmpdir(), 'smp86-pack-'));

function say(text: string): void {
  console.log(`pack-test: ${text}`);
}

/** Runs a program in the project; its output is shown when its status is not the expected one. */
function run(command: string, args: readonly string[], status = 0, input = ''): SpawnSyncReturns<string> {
  const result = spawnSync(command, args, { cwd: project, encoding: 'utf8', env, input, timeout: 120_000 });
  if (result.error !== undefined) throw result.error;
  const shown = `${command} ${args.join(' ')}\n${result.stdout}${result.stderr}`;
  assert.equal(result.status, status, `${shown}\nstatus ${result.status}, signal ${result.signal}`);
  return result;
}

const USER_PROGRAM = `
import { EMBEDDED_KERNEL, Machine, OptionError, type MachineExit, type MachineCreateOptions } from 'smp86';

const options: MachineCreateOptions = { kernel: EMBEDDED_KERNEL, append: 'limit=2000', smp: 2, memory: '32M' };
await using machine = await Machine.create(options);
machine.on('shutdown', (reason) => console.log('event', reason satisfies string));
const console1 = machine.serial[0];
if (console1 === undefined) throw new Error('no COM1');
const output: string = await console1.waitFor(/(\\d+) primes/, { timeout: 60_000 });
console.log(output.includes('2 CPUs') ? 'two CPUs' : output);
const exit: MachineExit = await machine.exit;
console.log(exit.reason, exit.status);
try {
  // @ts-expect-error a CPU is no number
  await Machine.create({ cpu: 5 });
} catch (error) {
  console.log(error instanceof OptionError);
}
`;

try {
  say('npm pack');
  const packed = execFileSync('npm', ['pack', '--json', '--pack-destination', project], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const report = JSON.parse(packed.slice(packed.indexOf('['))) as {
    filename: string;
    size: number;
    files: { path: string }[];
  }[];
  const [{ filename, files, size }] = report;
  say(`${filename}: ${files.length} files, ${(size / 1e6).toFixed(1)} MB`);
  const paths = files.map(({ path }) => path);
  assert.ok(paths.includes('README.md'));
  assert.ok(!paths.some((path) => path.endsWith('.ts') && !path.endsWith('.d.ts')), 'sources in the package');

  say('npm install');
  writeFileSync(
    join(project, 'package.json'),
    JSON.stringify({ name: 'user', private: true, type: 'module', dependencies: {} }),
  );
  const install = ['install', '--no-audit', '--no-fund', '--prefer-offline', `./${filename}`];
  run('npm', install);

  say('the command');
  const smp86 = join(project, 'node_modules/.bin/smp86');
  assert.match(run(smp86, ['-version']).stdout, /^smp86 version \d+\.\d+\.\d+\n$/);
  const wrong = run(smp86, ['-kernel', '/nonexistent'], 1);
  assert.equal(wrong.stderr, 'smp86: -kernel: /nonexistent: no such file\n');
  const kernel = join(project, 'node_modules/smp86/dist/src/cli/guest/embedded/embedded.bin');
  const guest = ['-kernel', kernel, '-append', 'limit=2000', '-m', '32M', '-smp', '2', '-nographic'];
  assert.match(run(smp86, guest).stdout, /all correct/);

  say('smp86 img, with its threads');
  writeFileSync(join(project, 'disk.raw'), Buffer.alloc(1 << 20, 'a disk that can be compressed '));
  run(smp86, ['img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2']);
  assert.match(run(smp86, ['img', 'check', 'disk.qcow2']).stdout, /100.00% compressed clusters/);
  const compared = run(smp86, ['img', 'compare', '-f', 'raw', '-F', 'qcow2', 'disk.raw', 'disk.qcow2']);
  assert.equal(compared.stdout, 'Images are identical.\n');

  say('smp86 explore, without its parser and with it');
  assert.match(run(smp86, ['explore'], 2).stderr, /needs the parser acorn.*npm install acorn/);
  run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', 'acorn']);
  assert.match(run(smp86, ['explore', 'event', 'mutex']).stdout, /no violation, no data race/);
  assert.match(run(smp86, ['explore', '--mutate'], 2).stderr, /use a checkout/);

  say('a TypeScript program');
  writeFileSync(join(project, 'user.ts'), USER_PROGRAM);
  mkdirSync(dirname(join(project, TYPES)), { recursive: true });
  symlinkSync(join(ROOT, TYPES), join(project, TYPES));
  symlinkSync(join(ROOT, 'node_modules/undici-types'), join(project, 'node_modules/undici-types'));
  const tsc = [
    '--strict',
    '--target',
    'esnext',
    '--module',
    'nodenext',
    '--types',
    'node',
    '--outDir',
    'out',
  ];
  // every declaration is checked, the package's too
  run(join(ROOT, 'node_modules/.bin/tsc'), [...tsc, '--skipLibCheck', 'false', 'user.ts']);
  const output = run(process.execPath, ['out/user.js']).stdout.split('\n');
  assert.deepEqual(output.slice(0, 3).sort(), ['event shutdown', 'shutdown 0', 'two CPUs']);
  assert.equal(output[3], 'true');
  say('all well');
} finally {
  rmSync(project, { recursive: true, force: true });
}
