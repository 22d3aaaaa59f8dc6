/**
 * Starts test/support/tape-writer.ts, waits for its word, and kills it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export async function killTapeWriter(kind: string, path: string, records: number): Promise<void> {
  const script = join(import.meta.dirname, 'tape-writer.ts');
  const child = spawn(process.execPath, [script, kind, path, String(records)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const first = await Promise.race([once(child.stdout, 'data'), ended.then(() => undefined)]);
  child.kill('SIGKILL');
  await ended;
  if (first === undefined) throw new Error('the writer ended before it had written');
}
