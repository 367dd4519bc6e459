export * from './atomic.ts';
export * from './errors.ts';
export * from './event.ts';
export * from './mutex.ts';
export * from './struct.ts';
export * from './sync-ops.ts';
