/**
 * Dispatch tables of the decoder, built at load from the rows: per map and opcode a block of cells, with only the
 * dimensions that its rows distinguish (code size, mandatory prefix, W, L, ModRM). Thread: any. Lock: none.
 */
import { MAP_COUNT, type Row } from './row.ts';
import { ROWS } from './table.ts';

export const DIM_MODE = 1;
export const DIM_PREFIX = 2;
export const DIM_W = 4;
export const DIM_L = 8;
/** ModRM dimension: 0 none, else memory/register (2 cells), reg (16), reg and all of ModRM for registers (72). */
export const DIM_MODRM_SHIFT = 4;
export const MODRM_CELLS = [1, 2, 16, 72];
export const HAS_MODRM = 64;

const NODE_COUNT = MAP_COUNT * 256;
/** First cell of each opcode (index: map << 8 | opcode), or -1. */
export const nodeBase = new Int32Array(NODE_COUNT).fill(-1);
export const nodeDims = new Uint8Array(NODE_COUNT);

/** Place of a ModRM byte in its dimension. */
export function modrmKey(dims: number, modrm: number): number {
  const register = modrm >= 0xc0;
  switch ((dims >> DIM_MODRM_SHIFT) & 3) {
    case 0:
      return 0;
    case 1:
      return register ? 1 : 0;
    case 2:
      return (register ? 8 : 0) | ((modrm >> 3) & 7);
    default:
      return register ? 8 + (modrm & 63) : (modrm >> 3) & 7;
  }
}

/** Which rows of one opcode win a cell: those that say more about it. */
function specificity(row: Row): number {
  return (
    (row.exact >= 0 ? 64 : 0) +
    (row.reg >= 0 ? 32 : 0) +
    (row.w >= 0 ? 8 : 0) +
    (row.l >= 0 ? 4 : 0) +
    (row.prefix >= 0 ? 2 : 0) +
    (row.span === 1 ? 1 : 0)
  );
}

function buildNode(node: number, rows: Row[], cells: number[]): void {
  let dims = 0;
  let modrmKind = 0;
  for (const row of rows) {
    if (row.no64 || row.only64) dims |= DIM_MODE;
    if (row.prefix >= 0) dims |= DIM_PREFIX;
    if (row.w >= 0) dims |= DIM_W;
    if (row.l >= 0) dims |= DIM_L;
    if (row.modrm) dims |= HAS_MODRM;
    modrmKind = Math.max(modrmKind, row.exact >= 0 ? 3 : row.reg >= 0 ? 2 : row.mod >= 0 ? 1 : 0);
  }
  if (dims & HAS_MODRM && rows.some((row) => !row.modrm)) throw new Error(`ModRM of ${rows[0].opcode}`);
  dims |= modrmKind << DIM_MODRM_SHIFT;
  const modrmCells = MODRM_CELLS[modrmKind];
  const size = (dims & 1 ? 2 : 1) * (dims & 2 ? 4 : 1) * (dims & 4 ? 2 : 1) * (dims & 8 ? 2 : 1) * modrmCells;
  const base = cells.length;
  const rank: number[] = [];
  for (let i = 0; i < size; i++) {
    cells.push(-1);
    rank.push(-1);
  }
  for (const row of rows) {
    const level = specificity(row);
    const keys = matchingKeys(row, modrmKind, modrmCells);
    for (let mode = 0; mode < (dims & DIM_MODE ? 2 : 1); mode++) {
      if ((mode === 0 && row.only64 && dims & DIM_MODE) || (mode === 1 && row.no64)) continue;
      for (let prefix = 0; prefix < (dims & DIM_PREFIX ? 4 : 1); prefix++) {
        if (row.prefix >= 0 && row.prefix !== prefix) continue;
        for (let w = 0; w < (dims & DIM_W ? 2 : 1); w++) {
          if (row.w >= 0 && row.w !== w) continue;
          for (let l = 0; l < (dims & DIM_L ? 2 : 1); l++) {
            if (row.l >= 0 && row.l !== l) continue;
            for (const key of keys) {
              let cell = mode;
              if (dims & DIM_PREFIX) cell = cell * 4 + prefix;
              if (dims & DIM_W) cell = cell * 2 + w;
              if (dims & DIM_L) cell = cell * 2 + l;
              cell = cell * modrmCells + key;
              if (rank[cell] === level) {
                throw new Error(
                  `table rows collide: ${row.opcode} ${row.name} and ${ROWS[cells[base + cell]].name}`,
                );
              }
              if (rank[cell] > level) continue;
              rank[cell] = level;
              cells[base + cell] = row.id;
            }
          }
        }
      }
    }
  }
  nodeBase[node] = base;
  nodeDims[node] = dims;
}

function matchingKeys(row: Row, kind: number, count: number): number[] {
  const keys: number[] = [];
  for (let key = 0; key < count; key++) if (keyMatches(row, kind, key)) keys.push(key);
  return keys;
}

function keyMatches(row: Row, kind: number, key: number): boolean {
  if (kind === 0) return true;
  const register = kind === 1 ? key === 1 : key >= 8;
  if (row.mod >= 0 && (row.mod === 1) !== register) return false;
  if (kind === 1) return true;
  const modrm = kind === 3 && register ? 0xc0 + (key - 8) : -1;
  const reg = modrm >= 0 ? (modrm >> 3) & 7 : key & 7;
  if (row.reg >= 0 && row.reg !== reg) return false;
  return row.exact < 0 || row.exact === modrm;
}

function buildCells(): Int16Array {
  const byNode: Row[][] = Array.from({ length: NODE_COUNT }, () => []);
  for (const row of ROWS) {
    for (let i = 0; i < row.span; i++) byNode[row.map * 256 + row.byte + i].push(row);
  }
  const cells: number[] = [];
  byNode.forEach((rows, node) => {
    if (rows.length > 0) buildNode(node, rows, cells);
  });
  return Int16Array.from(cells);
}
/** Row of each cell, or -1. */
export const cells = buildCells();
