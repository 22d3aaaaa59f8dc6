/**
 * Starts test/support/tape-writer.ts, waits until it has written, and kills it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

/** @param before the kill, what the test does meanwhile */
export async function killTapeWriter(
  kind: 'virtual' | 'st',
  path: string,
  records: number,
  before: () => Promise<void> = async () => undefined,
): Promise<void> {
  const script = join(import.meta.dirname, 'tape-writer.ts');
  const child = spawn(process.execPath, [script, kind, path, String(records)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const first = await Promise.race([once(child.stdout, 'data'), ended.then(() => undefined)]);
  try {
    await before();
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
  if (first === undefined) throw new Error('the writer ended before it had written');
}
