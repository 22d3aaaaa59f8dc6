/**
 * A directory of the test's own, gone when the test has ended.
 */
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** Absolute, without links. */
export async function temporaryDirectory(): Promise<string> {
  const path = await realpath(await mkdtemp(join(tmpdir(), 'spindle-test-')));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}
