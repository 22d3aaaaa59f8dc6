/**
 * The engine as a job worker sees it, and targets opened in a worker.
 */
import { DirectoryTarget } from '../target/file.ts';
import type { Target } from '../target/target.ts';
import type { CallName, Calls, TargetPlace } from './worker-protocol.ts';

export interface Engine {
  /** Fires when the job is to stop. */
  readonly signal: AbortSignal;
  /** @param transfer buffers that the engine takes over */
  call<Name extends CallName>(
    name: Name,
    args: Calls[Name]['arguments'],
    transfer?: ArrayBuffer[],
  ): Promise<Calls[Name]['answer']>;
}

export function openTarget(place: TargetPlace): Target {
  return new DirectoryTarget(place.path);
}
