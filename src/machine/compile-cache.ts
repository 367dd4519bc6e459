/**
 * In a checkout every thread strips the types of what it imports and compiles it, 0.4 s of CPU time each; Node's
 * compile cache keeps both. The package holds JavaScript: its command uses Node's own directory for the cache, its library
 * leaves the choice to its user.
 */
import module from 'node:module';
import { fileURLToPath } from 'node:url';

const FROM_SOURCES = import.meta.url.endsWith('.ts');

function directory(): string {
  return fileURLToPath(new URL('../../node_modules/.cache/smp86', import.meta.url));
}

/** For the present thread, for what it imports from now on. *Thread:* host, of the command. */
export function enableCompileCache(): void {
  if (process.env.NODE_COMPILE_CACHE !== undefined) return;
  module.enableCompileCache(FROM_SOURCES ? directory() : undefined);
}

/** Environment variables for a worker. */
export function workerEnvironment(): NodeJS.ProcessEnv {
  if (!FROM_SOURCES || process.env.NODE_COMPILE_CACHE !== undefined) return process.env;
  return { ...process.env, NODE_COMPILE_CACHE: directory() };
}
