import { spawn } from 'node:child_process';
import { GuestError } from './errors.ts';

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program to its end, its output collected. A program that is missing is a GuestError; a
 * non-zero status is not.
 */
export async function run(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string>; timeoutMs?: number } = {},
): Promise<RunResult> {
  const { promise, resolve, reject } = Promise.withResolvers<RunResult>();
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, LC_ALL: 'C', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: options.timeoutMs ?? 600_000,
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.on('error', (error: NodeJS.ErrnoException) => {
    const reason = error.code === 'ENOENT' ? `${command} is not installed` : `${command}: ${error.message}`;
    reject(new GuestError('ERR_GUEST_TOOL', reason, { cause: error }));
  });
  child.on('close', (status, signal) => {
    resolve({
      status: status ?? 128,
      stdout,
      stderr: signal === null ? stderr : `${stderr}ended by ${signal}\n`,
    });
  });
  return await promise;
}

/** The last line of a program's error output that says something, for a one-line message. */
export function lastErrorLine(result: RunResult): string {
  const lines = result.stderr.split('\n').filter((line) => line.trim() !== '');
  const error = lines.filter((line) => line.startsWith('E:')).at(-1) ?? lines.at(-1);
  return error?.replace(/^E: /, '') ?? `exit status ${result.status}`;
}
