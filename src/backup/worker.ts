/**
 * The entry of a job worker thread: moves the bulk bytes of one task between a pool and a target,
 * with checksums, so that they never cross the engine's thread.
 *
 * One task a life; the thread ends after it. Whatever fails is told with its code.
 */
import { parentPort } from 'node:worker_threads';
import { assert, defined } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import { packError, unpackError } from '../base/packed-error.ts';
import { runBackup, runConsolidate } from './worker-backup.ts';
import type { Engine } from './worker-engine.ts';
import type { CallName, Calls, FromWorker, Task, ToWorker } from './worker-protocol.ts';
import { runRead, runVerify } from './worker-read.ts';

const port = defined(parentPort, 'the port of a worker thread');
const aborted = new AbortController();
const waiting = new Map<
  number,
  { resolve: (value: unknown) => void; reject: (error: Error) => void }
>();
let lastCall = 0;

function tell(message: FromWorker, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

const engine: Engine = {
  signal: aborted.signal,
  call<Name extends CallName>(
    name: Name,
    args: Calls[Name]['arguments'],
    transfer: ArrayBuffer[] = [],
  ): Promise<Calls[Name]['answer']> {
    aborted.signal.throwIfAborted();
    lastCall += 1;
    const id = lastCall;
    tell({ kind: 'call', id, name, args }, transfer);
    const answered = new Promise<Calls[Name]['answer']>((resolve, reject) => {
      const settle = (value: unknown): void => {
        assert(isAnswer(name, value), `an answer to ${name}`);
        resolve(value);
      };
      waiting.set(id, { resolve: settle, reject });
    });
    // a call may be refused before the task comes to await it
    answered.catch(() => undefined);
    return answered;
  },
};

/** The engine answers a call with the type that goes with its name. */
function isAnswer<Name extends CallName>(
  name: Name,
  value: unknown,
): value is Calls[Name]['answer'] {
  return name !== 'places' || value !== undefined;
}

async function run(task: Task): Promise<unknown> {
  switch (task.kind) {
    case 'backup':
      return runBackup(engine, task);
    case 'consolidate':
      return runConsolidate(engine, task);
    case 'verify':
      return runVerify(engine, task);
    case 'read':
      return runRead(engine, task);
  }
}

function onMessage(message: ToWorker): void {
  switch (message.kind) {
    case 'start':
      run(message.task).then(
        (result) => {
          tell({ kind: 'done', result });
        },
        (error: unknown) => {
          tell({ kind: 'failed', error: packError(error) });
        },
      );
      return;
    case 'abort':
      aborted.abort(new StorageError('CANCELLED', 'the task was interrupted'));
      return;
    case 'answer':
    case 'refused': {
      const call = waiting.get(message.id);
      assert(call !== undefined, 'an answer to a call');
      waiting.delete(message.id);
      if (message.kind === 'answer') call.resolve(message.value);
      else call.reject(unpackError(message.error));
    }
  }
}

port.on('message', onMessage);
