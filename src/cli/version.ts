/** The version of the package. */
import { readFileSync } from 'node:fs';

export function versionText(): string {
  // the package has everything one directory deeper, in dist
  const up = import.meta.url.endsWith('.ts') ? '../../' : '../../../';
  const file = new URL(`${up}package.json`, import.meta.url);
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
  return `smp86 version ${version}\n`;
}
