import type { Helper } from '../sem/misc-helpers.ts';
export const TRANSCENDENTAL_HELPERS: Readonly<Record<string, Helper>> = {};
