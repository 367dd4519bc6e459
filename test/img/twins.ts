/** Runs command lines with qemu-img and with `smp86 img` in twin directories. */
import { type ChildProcessByStdio, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { runImg } from '../../src/cli/img/img.ts';

export interface Outcome {
  readonly status: number | null;
  /** Parsed when it is JSON. */
  readonly out: unknown;
  readonly err: string;
}

/** Words of a command line; single quotes hold spaces and nothing. */
export function words(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain);
}

/** What differs between two runs for a good reason. */
function normal(text: string): string {
  return (
    text
      .replace(/^disk size: .*$/gm, 'disk size: N')
      .replace(/"actual-size": \d+/g, '"actual-size": 0')
      .replace(/"date-(sec|nsec)": \d+/g, '"date-$1": 0')
      .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, 'DATE')
      // QEMU makes a new refcount structure, then finds the old one's clusters leaked
      .replace(/(?<=^Rebuilding refcount structure\n)(Repairing cluster \d+ refcount=1 reference=0\n)+/gm, '')
      .replace(/Run completed in \d+\.\d+/g, 'Run completed in N')
      .replace(/^(qemu-img|smp86 img): /gm, '')
      .replace(/Detected format of (\w+)\.$/, 'Detected format of $1.\n')
      .replace("Try 'qemu-img --help'", "Try 'smp86 img --help'")
  );
}

function outcome(status: number | null, stdout: string, stderr: string): Outcome {
  const text = normal(stdout);
  const out: unknown = /^[[{]/.test(text) ? JSON.parse(text) : text;
  return { status, out, err: normal(stderr) };
}

/** Memory where there is such a file system, with direct I/O: qemu-img waits for the disk at the end of every command. */
function quickDirectory(): string {
  const memory = '/dev/shm';
  const probe = join(memory, `smp86-img-probe-${process.pid}`);
  try {
    closeSync(openSync(probe, constants.O_CREAT | constants.O_RDWR | constants.O_DIRECT));
    return memory;
  } catch {
    return tmpdir();
  } finally {
    rmSync(probe, { force: true });
  }
}

export class Twins {
  readonly #root = mkdtempSync(join(quickDirectory(), 'smp86-img-'));
  readonly qemu = join(this.#root, 'qemu');
  readonly smp86 = join(this.#root, 'smp86');
  readonly #holders: ChildProcessByStdio<Writable, Readable, null>[] = [];

  constructor() {
    mkdirSync(this.qemu);
    mkdirSync(this.smp86);
  }

  /** Opens an image with qemu-io. */
  async #hold(cwd: string, args: readonly string[]): Promise<void> {
    const child = spawn('qemu-io', args, { cwd, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#holders.push(child);
    // its prompt: the image is open
    await once(child.stdout, 'data');
  }

  /** Ends what `hold` began. */
  async release(): Promise<void> {
    for (const child of this.#holders.splice(0)) {
      const ended = once(child, 'exit');
      child.stdin.end();
      await ended;
    }
  }

  async remove(): Promise<void> {
    await this.release();
    rmSync(this.#root, { recursive: true });
  }

  /** A preparation; false: the line is none. */
  async prepare(line: string): Promise<boolean> {
    const [program, ...args] = words(line);
    if (program === 'hold') {
      for (const directory of [this.qemu, this.smp86]) await this.#hold(directory, args);
      return true;
    }
    if (program === 'release') {
      await this.release();
      return true;
    }
    const act = PREPARATIONS[program];
    if (act === undefined) return false;
    for (const directory of [this.qemu, this.smp86]) act(directory, args, line);
    return true;
  }

  runQemu(line: string): Outcome {
    // QEMU hangs in some cases that it does not refuse
    const child = spawnSync('qemu-img', words(line), { cwd: this.qemu, encoding: 'utf8', timeout: 20_000 });
    return outcome(child.status, child.stdout, child.stderr);
  }

  async runSmp86(line: string): Promise<Outcome> {
    let [stdout, stderr] = ['', ''];
    const before = process.cwd();
    process.chdir(this.smp86);
    try {
      const status = await runImg(words(line), {
        out: (text) => {
          stdout += text;
        },
        err: (text) => {
          stderr += text;
        },
      });
      return outcome(status, stdout, stderr);
    } finally {
      process.chdir(before);
    }
  }

  /** A command that failed may have left a file that the other did not make, or taken one away. */
  removeUnmatched(): void {
    const [ours, theirs] = [list(this.smp86), list(this.qemu)];
    for (const name of ours) if (!theirs.includes(name)) rmSync(join(this.smp86, name));
    for (const name of theirs) if (!ours.includes(name)) rmSync(join(this.qemu, name));
  }

  /** Differences between the files that the two have left, in words. `sound`: their content is looked at. */
  differences(sound: boolean): string[] {
    const [ours, theirs] = [list(this.smp86), list(this.qemu)];
    const found = theirs.filter((name) => !ours.includes(name)).map((name) => `${name} is missing`);
    for (const name of ours) {
      if (!theirs.includes(name)) found.push(`${name} is one too many`);
      else found.push(...this.#compareFile(name, sound));
    }
    return found;
  }

  #compareFile(name: string, sound: boolean): string[] {
    if (!sound) return [];
    const [ours, theirs] = [join(this.smp86, name), join(this.qemu, name)];
    if (!isQcow2(theirs)) return readFileSync(ours).equals(readFileSync(theirs)) ? [] : [`${name} differs`];
    if (!isQcow2(ours)) return [`${name} is no qcow2 image`];
    const found: string[] = [];
    const check = spawnSync('qemu-img', ['check', '-f', 'qcow2', name], {
      cwd: this.smp86,
      encoding: 'utf8',
    });
    // an external data file is relative to the directory in which QEMU runs
    const flat = join(this.smp86, '.flat');
    spawnSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', name, flat], { cwd: this.smp86 });
    const compare = ['compare', '-f', 'qcow2', '-F', 'raw', name, flat];
    const same = spawnSync('qemu-img', compare, { cwd: this.qemu, encoding: 'utf8' });
    rmSync(flat, { force: true });
    // an image whose backing file is nowhere cannot be looked at
    if (/Could not open backing file/.test(check.stderr)) return [];
    if (check.status !== 0) found.push(`check of ${name}: ${check.stderr}${check.stdout}`);
    if (same.status !== 0) found.push(`${name}: ${same.stderr}${same.stdout}`);
    return found;
  }
}

function list(directory: string): string[] {
  return (readdirSync(directory, { recursive: true }) as string[])
    .filter((name) => statSync(join(directory, name)).isFile())
    .sort();
}

function isQcow2(path: string): boolean {
  return readFileSync(path).subarray(0, 4).toString('latin1') === 'QFI\xfb';
}

type Preparation = (directory: string, args: readonly string[], line: string) => void;

const PREPARATIONS: Readonly<Record<string, Preparation>> = {
  io(cwd, args, line) {
    const options = args[0] === '-f' ? args.slice(0, 2) : [];
    const file = args[options.length];
    const commands = line.split(` ${file} `).slice(1).join(` ${file} `).split(';');
    const flags = commands.flatMap((command) => ['-c', command.trim()]);
    const output = execFileSync('qemu-io', [...options, ...flags, file], { cwd, encoding: 'utf8' });
    if (/fail|error/i.test(output)) throw new Error(`${line}: ${output}`);
  },
  qemu(cwd, args) {
    execFileSync('qemu-img', args, { cwd });
  },
  fill(cwd, [file, bytes]) {
    const data = Buffer.alloc(Number(bytes));
    let state = 12345;
    for (let i = 0; i < data.length; i++) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      data[i] = (state >>> 16) | 1;
    }
    writeFileSync(join(cwd, file), data);
  },
  patch(cwd, [file, offset, hex]) {
    const fd = openSync(join(cwd, file), 'r+');
    const bytes = Buffer.from(hex, 'hex');
    writeSync(fd, bytes, 0, bytes.length, Number(offset));
    closeSync(fd);
  },
  copy(cwd, [from, to]) {
    copyFileSync(join(cwd, from), join(cwd, to));
  },
  mkdir(cwd, [name]) {
    mkdirSync(join(cwd, name));
  },
};
