/** Writes, discards, flushes and reads of disks, any size, any alignment. */
import { type Answer, Lost } from './client.ts';
import { Content } from './content.ts';
import { examine, type Write } from './history.ts';
import { type DiskModel, wrongBytes } from './model.ts';
import { patternBytes } from './pattern.ts';
import type { Random } from './random.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const WHOLE_BYTES = 4 * MIB;

/** Refusals that what others do to a disk can bring, between now and the call of the result. */
export function raceCodes(disk: DiskModel): () => string[] {
  const { resizes } = disk;
  const wasResizing = disk.isResizing;
  return () => [
    ...(disk.isDeleting ? ['NOT_FOUND'] : []),
    ...(wasResizing || disk.resizes !== resizes ? ['RANGE_NOT_SATISFIABLE'] : []),
  ];
}

/** One act of a writer. */
export async function actOnData(world: World, random: Random): Promise<void> {
  const disk = world.usableDisk(random);
  if (disk === undefined || disk.isQuiet) return;
  const act = random.weighted([
    [40, putSmall],
    [15, putMedium],
    [6, putLarge],
    [6, putZeros],
    [8, discard],
    [6, flush],
    [25, readBack],
  ]);
  await act(world, random, disk);
}

/** A range of about this length, within the disk. */
function chooseRange(random: Random, disk: DiskModel, wanted: number): [number, number] {
  const { capacity } = disk;
  const zone = random.pick(disk.zones.filter(({ from }) => from < capacity));
  const start = zone?.from ?? 0;
  const room = Math.max(1, Math.min(zone?.length ?? capacity, capacity - start));
  const grid = random.weighted([
    [3, 1],
    [3, 512],
    [4, 4 * KIB],
    [3, 64 * KIB],
  ]);
  const length = Math.min(room, Math.max(grid, Math.round(wanted / grid) * grid));
  const last = room - length;
  const from = start + Math.min(last, Math.floor((random.next() * (last + 1)) / grid) * grid);
  return [from, from + length];
}

async function putSmall(world: World, random: Random, disk: DiskModel): Promise<void> {
  const [from, to] = chooseRange(random, disk, random.size(1, 128 * KIB));
  await put(world, random, disk, from, to);
}

async function putMedium(world: World, random: Random, disk: DiskModel): Promise<void> {
  const [from, to] = chooseRange(random, disk, random.size(128 * KIB, WHOLE_BYTES));
  await put(world, random, disk, from, to);
}

async function putLarge(world: World, random: Random, disk: DiskModel): Promise<void> {
  const [from, to] = chooseRange(random, disk, random.size(WHOLE_BYTES, 24 * MIB));
  await put(world, random, disk, from, to);
}

/** @returns what the write will be known as */
async function put(
  world: World,
  random: Random,
  disk: DiskModel,
  from: number,
  to: number,
): Promise<void> {
  const length = to - from;
  const durability = random.chance(0.55) ? 'durable' : 'volatile';
  const isChunked = random.chance(0.25);
  const isStreamed = isChunked || length > WHOLE_BYTES || random.chance(0.1);
  const write = world.beginWrite(disk, { from, to, what: `${durability} put` });
  const cut = isStreamed && random.chance(0.05) ? random.int(1, length) : undefined;
  write.isCut = cut !== undefined;
  const { number } = write;
  const codes = raceCodes(disk);
  world.count(isStreamed ? 'streamed put' : 'put');
  try {
    const path = `/disks/${disk.ref}/data?offset=${from}&durability=${durability}`;
    const answer = await world.client.ask('PUT', path, {
      ...(isStreamed ? { pieces: piecesOf(random, number, from, to) } : {}),
      ...(isStreamed ? {} : { body: patternBytes(number, from, to) }),
      ...(isStreamed && !isChunked ? { length } : {}),
      ...(cut === undefined ? {} : { cutAfter: cut }),
    });
    if (answer.status === 204) {
      world.endWrite(write, durability);
    } else {
      settleRefusedPut(world, disk, write, answer, codes());
    }
  } catch (error) {
    // Cut by us: it may go on until the daemon has noticed. Dying: the models settle it later.
    if (!(error instanceof Lost) || world.isDying) throw error;
  }
}

function* piecesOf(
  random: Random,
  number: number,
  from: number,
  to: number,
): Generator<Buffer, void, undefined> {
  for (let at = from; at < to;) {
    const next = Math.min(to, at + random.size(1 * KIB, 512 * KIB));
    yield patternBytes(number, at, next);
    at = next;
  }
}

function settleRefusedPut(
  world: World,
  disk: DiskModel,
  write: Write,
  answer: { status: number; body: Buffer },
  codes: readonly string[],
): void {
  const code = world.refused(write.what, answer, codes);
  const { writtenBytes } = JSON.parse(answer.body.toString()) as { writtenBytes?: number };
  const length = write.to - write.from;
  if (writtenBytes === undefined || writtenBytes === 0) {
    world.endWrite(write, code === 'NOT_FOUND' ? 'unsure' : 'void');
  } else if (writtenBytes > length) {
    throw new Violation(`${write.what} of ${length} bytes wrote ${writtenBytes}`);
  } else {
    write.to = write.from + writtenBytes;
    world.endWrite(write, 'durable');
  }
  if (code !== 'DISK_FENCED') return;
  // it reached the disk before the fence, so what the restore brings replaces it
  const restore = disk.writes.findLast(({ number, begin, end }) => {
    return number < 0 && begin < write.end && end > write.begin;
  });
  if (restore !== undefined) write.before = restore;
}

async function putZeros(world: World, random: Random, disk: DiskModel): Promise<void> {
  const [from, to] = chooseRange(random, disk, random.size(512, 2 * MIB));
  const write = world.beginWrite(disk, { from, to, number: 0, what: 'put of zeros' });
  world.count('put of zeros');
  const codes = raceCodes(disk);
  const path = `/disks/${disk.ref}/data?offset=${from}`;
  const answer = await world.client.ask('PUT', path, { body: Buffer.alloc(to - from) });
  if (answer.status === 204) world.endWrite(write, 'durable');
  else settleRefusedPut(world, disk, write, answer, codes());
}

async function discard(world: World, random: Random, disk: DiskModel): Promise<void> {
  const [from, to] = chooseRange(random, disk, random.size(1, 16 * MIB));
  const write = world.beginWrite(disk, { from, to, number: 0, what: 'discard' });
  world.count('discard');
  const codes = raceCodes(disk);
  const path = `/disks/${disk.ref}/data?offset=${from}&length=${to - from}`;
  const answer = await world.client.ask('DELETE', path);
  if (answer.status === 204) {
    world.endWrite(write, 'durable');
    return;
  }
  const code = world.refused('discard', answer, codes());
  world.endWrite(write, code === 'RANGE_NOT_SATISFIABLE' ? 'void' : 'unsure');
}

async function flush(world: World, _random: Random, disk: DiskModel): Promise<void> {
  const begin = world.tick();
  const { writes } = disk;
  const answer = await world.client.ask('POST', `/disks/${disk.ref}/flush`);
  world.count('flush');
  if (answer.status !== 204) {
    world.refused('flush', answer, disk.isDeleting ? ['NOT_FOUND'] : []);
    return;
  }
  const end = world.tick();
  for (const write of writes) {
    if (write.isCertain && write.end < begin) write.durable = Math.min(write.durable, end);
  }
}

async function readBack(world: World, random: Random, disk: DiskModel): Promise<void> {
  const [from, to] = chooseRange(random, disk, random.size(1, 2 * MIB));
  const { base, writes } = disk;
  const begin = world.tick();
  world.count('read');
  const codes = raceCodes(disk);
  const path = `/disks/${disk.ref}/data`;
  // a deletion or write-back by force closes the connection of a read
  const mayEnd = (): boolean => disk.isDeleting || disk.restores > 0;
  const headers = { range: `bytes=${from}-${to - 1}` };
  let answer: Answer;
  try {
    answer = random.chance(0.5)
      ? await world.client.ask('GET', `${path}?offset=${from}&length=${to - from}`, { mayEnd })
      : await world.client.ask('GET', path, { headers, mayEnd });
  } catch (error) {
    if (error instanceof Lost && mayEnd() && !world.isDying) return;
    throw error;
  }
  const end = world.tick();
  if (answer.status >= 400) {
    world.refused('read', answer, codes());
    return;
  }
  // a shrink meanwhile shortens what a Range gets
  if (answer.body.length !== to - from && !codes().includes('RANGE_NOT_SATISFIABLE')) {
    throw new Violation(`a read of ${to - from} bytes gave ${answer.body.length}`);
  }
  const actual = new Content();
  actual.put(from, answer.body);
  const isPast = (write: Write): boolean => write.end <= begin;
  const view = { base, writes: [...writes], isPast, end, isLive: true };
  const { mismatch } = examine(view, actual, from, from + answer.body.length);
  if (mismatch !== undefined) throw wrongBytes(`disk ${disk.name} (live)`, mismatch);
}
