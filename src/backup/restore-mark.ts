/**
 * The mark that a restore took effect, committed in the same transaction: a job that the daemon's
 * end cut off just then is not done again over what was written since.
 */
import { isJsonObject, parseJson, type Json, type JsonObject } from '../job/job.ts';
import type { MetadataStore, RowChange } from '../pool/metadata-store.ts';
import type { Backups } from './backups.ts';

function keyOf(job: string): { key: string } {
  return { key: `restored ${job}` };
}

export function markRow(job: string, result: JsonObject): RowChange {
  return { table: 'store', key: keyOf(job), row: { value: JSON.stringify(result) } };
}

/** The result of the job, if it has taken effect already. */
export async function readMark(backups: Backups, job: string): Promise<Json | undefined> {
  const [row] = await backups.options.store.rows('store', keyOf(job));
  const result = row === undefined ? null : parseJson(String(row['value']));
  return isJsonObject(result) ? result : undefined;
}

/** After the job has ended. */
export async function clearMark(store: MetadataStore, job: string): Promise<void> {
  const change: RowChange = { table: 'store', key: keyOf(job), row: undefined };
  await store.commit({ pages: [], rows: [change] });
}
