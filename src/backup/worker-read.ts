/**
 * Reading a backup in a worker: proving it, or handing its verified segments to the engine.
 */
import type { LostRange } from '../image/damage.ts';
import { ImageReader } from '../image/reader.ts';
import { type VerifyResult, verifyImage } from '../image/verify.ts';
import { type Engine, openTarget } from './worker-engine.ts';
import type { Task } from './worker-protocol.ts';

type ReadTask = Extract<Task, { kind: 'read' }>;
type VerifyTask = Extract<Task, { kind: 'verify' }>;

export async function runVerify(engine: Engine, task: VerifyTask): Promise<VerifyResult> {
  const bytes = await openTarget(task.target).open(task.name);
  try {
    let told: Promise<unknown> = Promise.resolve();
    const result = await verifyImage(bytes, {
      signal: engine.signal,
      onProgress: (done, total) => {
        told = engine.call('progress', [done, total]);
      },
    });
    await told;
    return result;
  } finally {
    await bytes.close();
  }
}

/** Segments in flight to the engine: one being written there, one being verified here. */
const AHEAD = 2;

export async function runRead(
  engine: Engine,
  task: ReadTask,
): Promise<{ damaged: readonly LostRange[] }> {
  const bytes = await openTarget(task.target).open(task.names.at(-1) ?? "");
  const damaged: LostRange[] = [];
  try {
    const reader = await ImageReader.open(bytes);
    await engine.call('facts', [reader.facts]);
    const inFlight: Promise<Uint8Array<ArrayBuffer>>[] = [];
    let spare: Uint8Array<ArrayBuffer> | undefined;
    const segments = reader.segments({
      from: task.fromSegment,
      onDamage: task.onDamage,
      signal: engine.signal,
      onProblem: ({ lost }) => damaged.push(...lost),
    });
    for await (const segment of segments) {
      if (inFlight.length >= AHEAD) spare = await inFlight.shift();
      const data = refill(spare, segment.data);
      spare = undefined;
      const message = {
        segment: segment.segment,
        sourceBlocks: segment.sourceBlocks.slice(),
        bad: [...segment.bad],
        damaged: segment.damaged,
        data,
      };
      inFlight.push(engine.call('segment', [message], [data.buffer]));
    }
    await Promise.all(inFlight);
    return { damaged };
  } finally {
    await bytes.close();
  }
}

/** The bytes in the spare buffer if they are as long, else in a new one. */
function refill(
  spare: Uint8Array<ArrayBuffer> | undefined,
  bytes: Uint8Array,
): Uint8Array<ArrayBuffer> {
  if (spare?.length !== bytes.length) return Uint8Array.from(bytes);
  spare.set(bytes);
  return spare;
}
