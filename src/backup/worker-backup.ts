/**
 * A backup in a worker: the image of a copy, or of a chain of backups, head to end, into a target.
 *
 * A confirmed offset is told every 64 MiB or 5 seconds, on tape every GiB or minute; after a
 * restart the next worker goes on there, since the image is the same bytes every time. It never
 * lies within a segment, whose blocks are compared with their checksums only behind its head. The
 * manifest comes last.
 */
import { systemClock } from '../base/clock.ts';
import { isStorageError } from '../base/errors.ts';
import { GIB, MIB } from '../base/units.ts';
import { chainSource } from '../image/chain-source.ts';
import type { ImageLayout } from '../image/format.ts';
import { type ImageSource, ImageWriter } from '../image/writer.ts';
import type { BackupSink, Target } from '../target/target.ts';
import { bytesOfImage } from './own-bytes.ts';
import { PoolReader } from './pool-reader.ts';
import { BusyTimes, type Engine, openTarget } from './worker-engine.ts';
import type { Task } from './worker-protocol.ts';
import { withChain } from './worker-read.ts';

/** How often to confirm. */
interface Pace {
  readonly bytes: number;
  readonly ms: number;
}
const usual: Pace = { bytes: 64 * MIB, ms: 5000 };
/** A drive stops for each filemark. It finds out by itself what it has, so little is at stake. */
const onTape: Pace = { bytes: GIB, ms: 60_000 };

export type BackupTask = Extract<Task, { kind: 'backup' }>;

export interface BackupDone {
  readonly imageBytes: number;
}

export async function runBackup(engine: Engine, task: BackupTask): Promise<BackupDone> {
  const pool = await PoolReader.open(task.pool, task.facts.blockSizeBytes);
  try {
    const busy = new BusyTimes();
    return await writeImage(engine, sourceOf(engine, task, pool, busy), task, busy);
  } finally {
    await pool.close();
  }
}

/** The full image of the newest copy of a chain. */
export async function runConsolidate(
  engine: Engine,
  task: Extract<Task, { kind: 'consolidate' }>,
): Promise<BackupDone> {
  return withChain(engine, task.target, task.from, (chain) =>
    writeImage(engine, chainSource(chain, engine.signal), task, new BusyTimes()),
  );
}

async function writeImage(
  engine: Engine,
  source: ImageSource,
  task: Pick<BackupTask, 'target' | 'name' | 'resumeFrom' | 'manifest'>,
  busy: BusyTimes,
): Promise<BackupDone> {
  const writer = new ImageWriter(source, { signal: engine.signal });
  const { imageBytes } = writer.layout;
  const target = await openTarget(task.target, engine);
  const pace = target.capabilities.appendOnly ? onTape : usual;
  const sink = await openSink(target, task);
  try {
    await copyImage(engine, writer, sink, busy, pace);
    await sink.commit({ ...task.manifest, imageBytes });
    if (sink.flow !== undefined) {
      await engine.call('progress', [imageBytes, imageBytes, busy.take(), sink.flow()]);
    }
  } catch (error) {
    await sink.abort(true);
    throw error;
  }
  return { imageBytes };
}

/** Where the last attempt was confirmed, or from 0 if the target cannot go on there. */
async function openSink(
  target: Target,
  task: Pick<BackupTask, 'name' | 'resumeFrom' | 'manifest'>,
): Promise<BackupSink> {
  const { name, resumeFrom, manifest } = task;
  const { imageId } = manifest;
  const named =
    typeof imageId === 'string' ? { contentId: imageId, owns: bytesOfImage(imageId) } : {};
  try {
    return await target.createBackup(name, { resumeFrom, ...named });
  } catch (error) {
    if (resumeFrom === 0 || !isStorageError(error, 'TARGET_INVALID')) throw error;
    return target.createBackup(name, named);
  }
}

async function copyImage(
  engine: Engine,
  writer: ImageWriter,
  sink: BackupSink,
  busy: BusyTimes,
  pace: Pace,
): Promise<void> {
  const { imageBytes } = writer.layout;
  let confirmed = sink.offset;
  let confirmedAtNs = systemClock.monotonicNs();
  for await (const chunk of writer.read(sink.offset, imageBytes)) {
    engine.signal.throwIfAborted();
    const write = () => sink.write([chunk], writer.checksumsOf(chunk));
    // With a drive, how long this takes says nothing of how busy that is.
    await (sink.flow === undefined ? busy.time('write', write) : write());
    if (!isSegmentEnd(writer.layout, sink.offset)) continue;
    await engine.call('progress', [sink.offset, imageBytes, busy.take(), sink.flow?.()]);
    const waited = Number(systemClock.monotonicNs() - confirmedAtNs) / 1e6;
    if (sink.offset - confirmed >= pace.bytes || waited >= pace.ms) {
      confirmed = await sink.confirm();
      confirmedAtNs = systemClock.monotonicNs();
      await engine.call('confirmed', [confirmed]);
    }
  }
}

/** True between two structures of the image: there another attempt can go on as this one would. */
function isSegmentEnd(layout: ImageLayout, offset: number): boolean {
  return offset === layout.imageBytes || layout.regionAt(offset).offset === offset;
}

function sourceOf(
  engine: Engine,
  task: BackupTask,
  pool: PoolReader,
  busy: BusyTimes,
): ImageSource {
  const places = new PlaceCache(engine);
  return {
    facts: task.facts,
    sourceBlocks: async (first, count) => (await places.of(first, count)).source,
    zeroRangesAt: (first, count) => engine.call('zeroRanges', [first, count]),
    readBlocks: async (first, count, into) => {
      const { physical } = await places.of(first, count);
      await busy.time('read', () => pool.read(physical, into));
    },
    knownChecksums: (segment) => engine.call('known', [segment]),
    keepChecksums: async (segment, checksums) => {
      await engine.call('keep', [segment, checksums]);
    },
  };
}

const PLACES_AT_ONCE = 2048;
const PLACES_KEPT = 4;

interface Places {
  readonly source: Float64Array;
  readonly physical: Uint32Array;
}

/** Asks the engine for places in large pieces; the last few are kept. */
class PlaceCache {
  readonly #engine: Engine;
  readonly #pieces = new Map<number, Promise<Places>>();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  async of(first: number, count: number): Promise<Places> {
    const source = new Float64Array(count);
    const physical = new Uint32Array(count);
    for (let done = 0; done < count;) {
      const piece = Math.floor((first + done) / PLACES_AT_ONCE);
      const places = await this.#piece(piece);
      const from = first + done - piece * PLACES_AT_ONCE;
      const part = Math.min(count - done, PLACES_AT_ONCE - from);
      source.set(places.source.subarray(from, from + part), done);
      physical.set(places.physical.subarray(from, from + part), done);
      done += part;
    }
    return { source, physical };
  }

  #piece(piece: number): Promise<Places> {
    const there = this.#pieces.get(piece);
    if (there !== undefined) return there;
    const asked = this.#engine.call('places', [piece * PLACES_AT_ONCE, PLACES_AT_ONCE]);
    this.#pieces.set(piece, asked);
    asked.catch(() => this.#pieces.delete(piece));
    const [oldest] = this.#pieces.keys();
    if (this.#pieces.size > PLACES_KEPT && oldest !== undefined) this.#pieces.delete(oldest);
    return asked;
  }
}
