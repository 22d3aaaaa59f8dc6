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
  const bytes = await openTarget(task.target).open(task.name);
  const damaged: LostRange[] = [];
  try {
    const reader = await ImageReader.open(bytes);
    await engine.call('facts', [reader.facts]);
    const inFlight: Promise<unknown>[] = [];
    const segments = reader.segments({
      from: task.fromSegment,
      onDamage: task.onDamage,
      signal: engine.signal,
      onProblem: ({ lost }) => damaged.push(...lost),
    });
    for await (const segment of segments) {
      const data = Uint8Array.from(segment.data);
      const message = {
        segment: segment.segment,
        sourceBlocks: segment.sourceBlocks.slice(),
        bad: [...segment.bad],
        damaged: segment.damaged,
        data,
      };
      while (inFlight.length >= AHEAD) await inFlight.shift();
      inFlight.push(engine.call('segment', [message], [data.buffer]));
    }
    await Promise.all(inFlight);
    return { damaged };
  } finally {
    await bytes.close();
  }
}
