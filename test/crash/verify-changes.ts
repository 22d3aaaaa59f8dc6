/**
 * What changed between copies: applied to what the older one holds it gives the newer one, also
 * where only a checkpoint of the older one is left.
 */
import { type Json, jsonOf } from './client.ts';
import { CHUNK, type Content, isZero } from './content.ts';
import type { CopyModel } from './model.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

const PAIRS = 6;

interface Older {
  readonly ref: string;
  readonly what: string;
  readonly content: Content;
}

/** All copies have been read. @throws Violation */
export async function verifyChanges(world: World): Promise<void> {
  const copies = world.copies.filter((copy) => copy.isUsable && copy.snapshot.content);
  const known: Older[] = copies.flatMap(({ ref, snapshot: { content } }) =>
    content === undefined ? [] : [{ ref, what: 'changes since a copy', content }],
  );
  const gone = await goneCopies(world);
  for (const olders of [known, gone]) {
    for (let pair = 0; pair < PAIRS; pair += 1) {
      const newer = world.random.pick(copies);
      const older = world.random.pick(olders);
      if (newer !== undefined && older !== undefined) await verifyPair(world, newer, older);
    }
  }
}

/** Copies that were backed up and are gone, as far as what they held is known. */
async function goneCopies(world: World): Promise<Older[]> {
  const views = await world.client.list('/backups');
  const there = await world.client.list('/copies');
  return views.flatMap(({ id, copyId }) => {
    const content = world.backups.find((backup) => backup.id === id)?.snapshot.content;
    if (content === undefined || there.some((copy) => copy.id === copyId)) return [];
    return [{ ref: String(copyId), what: 'changes since a checkpoint', content }];
  });
}

async function verifyPair(world: World, newer: CopyModel, older: Older): Promise<void> {
  const path = `/copies/${newer.ref}/changes?since=${older.ref}&pageSize=10000`;
  const first = await world.client.ask('GET', path);
  if (first.status === 409) {
    world.refused(path, first, ['COPIES_UNRELATED']);
    return;
  }
  if (first.status !== 200) {
    throw new Violation(`${path}: ${first.status}`, { body: first.body.toString() });
  }
  const { capacityBytes } = jsonOf(first) as { capacityBytes: number };
  world.count(older.what);
  const content = newer.snapshot.content;
  if (content === undefined) return;
  const ranges = (await world.client.list(path)).map(rangeOf);
  for (const chunk of new Set([...older.content.chunks(), ...content.chunks()])) {
    const patched = Buffer.from(older.content.get(chunk));
    const start = chunk * CHUNK;
    if (start + CHUNK > capacityBytes) patched.fill(0, Math.max(0, capacityBytes - start));
    for (const { from, to, kind } of ranges) {
      const [begin, end] = [Math.max(from, start), Math.min(to, start + CHUNK)];
      if (begin >= end) continue;
      const bytes = content.bytes(begin, end);
      if (kind === 'zero' && !isZero(bytes)) {
        throw new Violation(`${path}: there is data at ${begin}`, { from, to });
      }
      bytes.copy(patched, begin - start);
    }
    if (patched.equals(content.get(chunk))) continue;
    throw new Violation(`${path}: what differs near ${start} is left out`, { copy: newer.name });
  }
}

function rangeOf({ byteOffset, sizeBytes, kind }: Json): {
  readonly from: number;
  readonly to: number;
  readonly kind: unknown;
} {
  const from = byteOffset as number;
  return { from, to: from + (sizeBytes as number), kind };
}
