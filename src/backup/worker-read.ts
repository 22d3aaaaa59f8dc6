/**
 * Reading backups in a worker: proving one, or handing the verified segments of a chain to the
 * engine, as if it were one image.
 */
import { openChain } from '../image/chain.ts';
import type { ChainReader } from '../image/chain.ts';
import { layeredSegments } from '../image/chain-layers.ts';
import type { LostRange } from '../image/damage.ts';
import type { PassOptions } from '../image/reader.ts';
import { type VerifyResult, verifyImage } from '../image/verify.ts';
import { type Engine, openTarget } from './worker-engine.ts';
import type { BackupBytes } from '../target/target.ts';
import type { TargetPlace, Task } from './worker-protocol.ts';

type ReadTask = Extract<Task, { kind: 'read' }>;
type VerifyTask = Extract<Task, { kind: 'verify' }>;

export async function runVerify(engine: Engine, task: VerifyTask): Promise<VerifyResult> {
  const target = await openTarget(task.target, engine);
  const bytes = await target.open(task.name);
  try {
    let told: Promise<unknown> = Promise.resolve();
    const result = await verifyImage(bytes, {
      signal: engine.signal,
      onProgress: (done, total) => {
        told = engine.call('progress', [done, total]);
      },
    });
    await told;
    // the target may have one drive for both; a full image alone has no links
    await bytes.close();
    if (task.chain.length > 1) await withChain(engine, task.target, task.chain, checkLinks);
    return result;
  } finally {
    await bytes.close();
  }
}

/** Segments in flight to the engine: one being written there, one being verified here. */
const AHEAD = 2;

/** The whole chain is there, each image on top of its base. Cost: heads and ends of the images. */
async function checkLinks(chain: ChainReader): Promise<void> {
  await chain.checkComplete();
}

/** @param names of the backups, oldest first */
export async function withChain<T>(
  engine: Engine,
  place: TargetPlace,
  names: readonly string[],
  body: (chain: ChainReader) => Promise<T>,
): Promise<T> {
  const target = await openTarget(place, engine);
  const members: BackupBytes[] = [];
  try {
    for (const name of names) members.push(await target.open(name));
    return await body(await openChain(members));
  } finally {
    for (const bytes of members) await bytes.close();
  }
}

export async function runRead(
  engine: Engine,
  task: ReadTask,
): Promise<{ damaged: readonly LostRange[] }> {
  return withChain(engine, task.target, task.names, (chain) => readChain(engine, task, chain));
}

async function readChain(
  engine: Engine,
  task: ReadTask,
  chain: ChainReader,
): Promise<{ damaged: readonly LostRange[] }> {
  const damaged: LostRange[] = [];
  const [oldest, ...others] = chain.members;
  const image = oldest === undefined || others.length > 0 ? chain : oldest.reader;
  await engine.call('facts', [image.facts]);
  const isSequential = others.some(({ bytes }) => bytes.isSequential === true);
  const inFlight: Promise<Uint8Array<ArrayBuffer>>[] = [];
  let spare: Uint8Array<ArrayBuffer> | undefined;
  const options: PassOptions = {
    from: task.fromSegment,
    onDamage: task.onDamage,
    signal: engine.signal,
    onProblem: ({ lost }) => damaged.push(...lost),
  };
  const segments =
    isSequential && !task.mustAscend ? layeredSegments(chain, options) : image.segments(options);
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
