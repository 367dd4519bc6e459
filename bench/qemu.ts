/** Native QEMU beside smp86 in one run: whether it is there, and one run of it. */
import { spawn, spawnSync } from 'node:child_process';

/** QEMU's version line, or undefined where it is missing. */
export function qemuVersion(): string | undefined {
  const { status, stdout } = spawnSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' });
  return status === 0 ? stdout.split('\n')[0] : undefined;
}

/** Runs QEMU's TCG with `args`; gives what it printed. `until`: end it once the output matches. */
export async function runQemu(
  args: readonly string[],
  until?: RegExp,
): Promise<{ output: string; ms: number }> {
  const started = performance.now();
  const child = spawn('qemu-system-x86_64', ['-accel', 'tcg,thread=multi', '-nographic', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  let ms = 0;
  child.stdout.setEncoding('latin1');
  child.stdout.on('data', (text: string) => {
    output += text;
    if (ms === 0 && until?.test(output)) {
      ms = performance.now() - started;
      child.kill();
    }
  });
  await new Promise((resolve) => child.on('exit', resolve));
  return { output, ms: ms || performance.now() - started };
}

/** NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? NaN;
}
