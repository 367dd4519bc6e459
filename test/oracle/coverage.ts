/** Prints what an oracle run covered. */
import { formName } from './encode.ts';
import type { OracleResult, RowCoverage } from './oracle.ts';
import { classOf, rowText } from './rows.ts';

/** `list`: a line for every row. */
export function printCoverage(result: OracleResult, list: boolean, log: (line: string) => void): void {
  const classes = new Map<string, RowCoverage[]>();
  for (const one of result.rows) {
    const name = classOf(one.row);
    classes.set(name, [...(classes.get(name) ?? []), one]);
  }
  log('class      rows  forms    cases  fewest  faults  skipped  differing');
  for (const [name, rows] of classes) {
    const sum = (of: (r: RowCoverage) => number): number => rows.reduce((n, r) => n + of(r), 0);
    const fewest = Math.min(...rows.map((r) => r.cases));
    log(
      `${name.padEnd(9)} ${String(rows.length).padStart(5)} ${String(sum((r) => r.forms)).padStart(6)} ${String(sum((r) => r.cases)).padStart(8)}` +
        ` ${String(fewest).padStart(7)} ${String(sum((r) => r.faults)).padStart(7)} ${String(sum((r) => r.skipped)).padStart(8)} ${String(sum((r) => r.differences)).padStart(10)}`,
    );
  }
  if (list) {
    for (const r of result.rows)
      log(`  ${rowText(r.row).padEnd(30)} forms ${r.forms} cases ${r.cases} faults ${r.faults}`);
    for (const form of result.unreachable) log(`  not reachable: ${form}`);
  }
  log(
    `sequences: ${result.sequences}, ${result.sequenceFaults} ended by a fault, ${result.sequenceDifferences} differ`,
  );
  log(`not offered by the CPU model, must be #UD in the emulator: ${result.refused} cases`);
  log(`page faults in the middle of an access: ${result.crossingFaults}`);
  log(`inconclusive on the host (endless loop, alignment checks on): ${result.inconclusive}`);
  const reasons = new Map<string, string[]>();
  for (const { row, reason } of result.notRun)
    reasons.set(reason, [...(reasons.get(reason) ?? []), row.text]);
  for (const [reason, names] of reasons) {
    const distinct = [...new Set(names)];
    const shown =
      distinct.length > 12 && !list ? [...distinct.slice(0, 12), `… ${distinct.length - 12} more`] : distinct;
    log(`not run (${names.length} rows): ${reason}: ${shown.join(' ')}`);
  }
  const lacking = new Map<string, string[]>();
  for (const { form, reason } of result.lacking)
    lacking.set(reason, [...(lacking.get(reason) ?? []), `${form.row.name} ${formName(form)}`]);
  for (const [reason, forms] of lacking)
    log(`not run (${forms.length} forms): ${reason}: ${forms.join(', ')}`);
  log(`host CPU: ${result.vendor}`);
  if (result.missing.length > 0) log(`without semantics: ${result.missing.join(' ')}`);
  for (const f of result.failures) log(`DIFFERS: ${f.where}: ${f.count}`);
}
