export * from './struct.ts';
