/**
 * `npm test`: builds nothing, runs every vitest file, prints why anything was skipped and, alone on the last line,
 * `N passed, N failed, N skipped`. Exits non-zero on a failure, also when no test ran.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly success: boolean;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
  }[];
}

const root = new URL('..', import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), 'smp86-test-'));
const output = join(directory, 'report.json');
const vitest = join(root, 'node_modules/vitest/vitest.mjs');
const args = [vitest, 'run', '--reporter=default', '--reporter=json', `--outputFile=${output}`];

const child = spawn(process.execPath, [...args, ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' });
const status = await new Promise<number>((resolve) => {
  child.on('exit', (code) => resolve(code ?? 1));
});

let passed = 0;
let failed = 0;
let skipped = 0;
let broken = 0;
try {
  const report = JSON.parse(readFileSync(output, 'utf8')) as Report;
  passed = report.numPassedTests;
  failed = report.numFailedTests;
  skipped = report.numPendingTests;
  // a file that fails to load has no tests to count
  broken = report.testResults.filter((r) => r.status === 'failed' && r.message !== '').length;
} catch {
  broken = 1;
}
rmSync(directory, { recursive: true, force: true });
if (failed === 0 && (broken > 0 || status !== 0)) failed = Math.max(1, broken);
if (passed === 0 && failed === 0) failed = 1;
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = failed > 0 ? 1 : 0;
