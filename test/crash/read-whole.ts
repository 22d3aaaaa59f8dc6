/** Reads all that a disk or copy holds, by its table and then its bytes. */
import type { Client, Json } from './client.ts';
import { CHUNK, Content } from './content.ts';
import type { Random } from './random.ts';
import { Violation } from './violation.ts';

const PIECE = 4 * 1024 * 1024;

interface Range {
  readonly from: number;
  to: number;
}

/** The allocated ranges of a thing, those that touch joined. */
async function rangesOf(client: Client, path: string): Promise<Range[]> {
  const ranges: Range[] = [];
  for (const { byteOffset, sizeBytes } of await client.list(`${path}/allocation?pageSize=10000`)) {
    const from = byteOffset as number;
    const to = from + (sizeBytes as number);
    const last = ranges.at(-1);
    if (last !== undefined && from < last.to) throw new Violation(`${path}: ranges overlap`);
    if (last?.to === from) last.to = to;
    else ranges.push({ from, to });
  }
  return ranges;
}

async function readRange(client: Client, path: string, from: number, to: number): Promise<Buffer> {
  const answer = await client.ask('GET', path, { headers: { range: `bytes=${from}-${to - 1}` } });
  if (answer.status === 206 && answer.body.length === to - from) return answer.body;
  throw new Violation(`${path} ${from}-${to}: ${answer.status}`, {
    body: answer.body.subarray(0, 500).toString(),
  });
}

/**
 * A disk, or the full view of a copy. Between its ranges some places are read too: they are zeros.
 * @param path `/disks/REF` or `/copies/REF`
 */
export async function readFull(
  client: Client,
  path: string,
  capacity: number,
  like: Content,
  random: Random,
): Promise<Content> {
  const data = path.startsWith('/copies/') ? `${path}/data?view=full` : `${path}/data`;
  const ranges = await rangesOf(client, path);
  const content = new Content();
  for (const range of ranges) {
    const end = Math.min(range.to, capacity);
    for (let at = range.from; at < end; at += PIECE) {
      const next = Math.min(end, at + PIECE);
      content.put(at, await readRange(client, data, at, next), like);
    }
  }
  for (let probe = 0; probe < 3; probe += 1) {
    const from = Math.floor(random.next() * capacity);
    const to = Math.min(capacity, from + random.size(1, CHUNK));
    const bytes = await readRange(client, data, from, to);
    for (let at = from; at < to;) {
      const next = Math.min(to, (Math.floor(at / CHUNK) + 1) * CHUNK);
      if (!bytes.subarray(at - from, next - from).equals(content.bytes(at, next))) {
        throw new Violation(`${data}: the bytes at ${at} are not those of its table`);
      }
      at = next;
    }
  }
  return content;
}

/** A copy by its compact view and its correspondence table. */
export async function readCompact(
  client: Client,
  path: string,
  facts: Json,
  like: Content,
): Promise<Content> {
  const size = facts.blockSizeBytes as number;
  const capacity = facts.sourceCapacityBytes as number;
  const content = new Content();
  let expected = 0;
  for (const run of await client.list(`${path}/correspondence?pageSize=10000`)) {
    const { copyBlock, sourceBlock, length } = run as Record<string, number>;
    if (copyBlock === undefined || sourceBlock === undefined || length === undefined) {
      throw new Violation(`${path}: a run without its numbers`);
    }
    if (copyBlock !== expected) throw new Violation(`${path}: block ${expected} is in no run`);
    expected = copyBlock + length;
    const steps = Math.max(1, Math.floor(PIECE / size));
    for (let block = 0; block < length; block += steps) {
      const count = Math.min(steps, length - block);
      const from = (copyBlock + block) * size;
      const data = `${path}/data?view=compact`;
      const bytes = await readRange(client, data, from, from + count * size);
      const position = (sourceBlock + block) * size;
      content.put(position, bytes.subarray(0, Math.min(bytes.length, capacity - position)), like);
    }
  }
  if (expected !== facts.usedBlocks) {
    throw new Violation(`${path}: its table has ${expected} blocks`);
  }
  return content;
}
