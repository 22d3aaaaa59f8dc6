/**
 * Gives the memory of dead buffers back early.
 *
 * V8 looks at the size of young buffers only from 32 MiB on, and the engine's thread makes too few
 * objects to be collected sooner: between two streams that memory would stay taken for nothing. A
 * young collection costs about a millisecond here. docs/adr/0008-memory-of-the-daemon.md has the
 * numbers.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

type Collect = (options: { readonly type: 'minor' }) => void;

function isCollect(value: unknown): value is Collect {
  return typeof value === 'function';
}

function findCollect(): Collect | undefined {
  setFlagsFromString('--expose-gc');
  const found: unknown = runInNewContext('typeof gc === "function" ? gc : undefined');
  return isCollect(found) ? found : undefined;
}

const collect = findCollect();

/** Collects young garbage of this thread. Does nothing where the engine does not offer it. */
export function collectYoung(): void {
  collect?.({ type: 'minor' });
}
