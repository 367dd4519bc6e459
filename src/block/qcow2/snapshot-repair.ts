/** What `check` does about a damaged snapshot table. */
import { BlockError } from '../errors.ts';
import type { Check } from './check.ts';
import { readSnapshotTable } from './snapshot-table.ts';

/** Reads the table; one that cannot be read is counted, and left alone. */
export async function repairSnapshotTable(check: Check): Promise<void> {
  const { state, result } = check;
  const { header } = state;
  try {
    state.snapshots = await readSnapshotTable(
      state.file,
      header.snapshotsOffset,
      header.snapshotCount,
      header.size,
    );
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
    check.print(`ERROR failed to read the snapshot table: ${error.message}`);
    result.checkErrors++;
    state.snapshots = [];
  }
}
