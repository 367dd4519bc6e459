/** The version of the package. */
import { existsSync, readFileSync } from 'node:fs';

export function versionText(): string {
  // the package has everything deeper, in dist
  const places = ['../../', '../../../', '../../../../'].map(
    (up) => new URL(`${up}package.json`, import.meta.url),
  );
  const file = places.find((place) => existsSync(place)) ?? places[0];
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
  return `smp86 version ${version}\n`;
}
