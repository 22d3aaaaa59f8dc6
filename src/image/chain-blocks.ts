/**
 * Reads the blocks that a merge of a chain has found, from whichever images hold them.
 *
 * Invariant: a block that is not among the bad ones matched its checksum.
 */
import { assert } from '../base/assert.ts';
import { crc32 } from '../base/checksum.ts';
import type { Member } from './chain-member.ts';
import type { MergedBlocks } from './chain-merge.ts';
import type { OnDamage } from './damage.ts';
import { readParts } from './image-bytes.ts';
import type { ImageBytes } from './image-bytes.ts';
import { inLanes } from './read-ahead.ts';

/** Runs of blocks that are read at once. */
const LANES = 4;

/**
 * Reads the bytes of merged blocks and proves them.
 *
 * @returns indexes of those that are not right
 */
export async function readMerged(
  members: readonly Member[],
  blocks: MergedBlocks,
  into: Uint8Array,
  onDamage: OnDamage,
): Promise<Set<number>> {
  const bad = new Set<number>();
  const runs = consecutiveRuns(members, blocks);
  const blockSizeBytes = into.length / blocks.places.length;
  await inLanes(runs.length, 1, LANES, async (index) => {
    const run = runs[index];
    if (run === undefined) return;
    const { from, end, bytes, offset } = run;
    const part = into.subarray(from * blockSizeBytes, end * blockSizeBytes);
    const cuts = Array.from({ length: end - from }, (_, block) => (block + 1) * blockSizeBytes);
    await readParts(bytes, offset, part, cuts, onDamage);
    for (let block = from; block < end; block += 1) {
      const data = into.subarray(block * blockSizeBytes, (block + 1) * blockSizeBytes);
      if (crc32(data) !== blocks.checksums[block]) bad.add(block);
    }
  });
  for (const block of blocks.lost) bad.add(block);
  return bad;
}

interface Run {
  readonly from: number;
  readonly end: number;
  readonly bytes: ImageBytes;
  readonly offset: number;
}

/** Blocks that lie behind each other in one segment of one image; without those that are lost. */
function consecutiveRuns(members: readonly Member[], blocks: MergedBlocks): Run[] {
  const runs: Run[] = [];
  let from = 0;
  for (let end = 1; end <= blocks.places.length; end += 1) {
    const member = members[blocks.members[from] ?? -1];
    const first = blocks.memberBlocks[from] ?? 0;
    assert(member !== undefined, 'the image of a block');
    const { layout } = member.reader;
    const segment = Math.floor(first / layout.blocksPerSegment);
    const goesOn =
      blocks.members[end] === blocks.members[from] &&
      blocks.memberBlocks[end] === first + end - from &&
      first + end - from < layout.segmentFirstBlock(segment + 1) &&
      !blocks.lost.has(from) &&
      !blocks.lost.has(end);
    if (goesOn) continue;
    if (!blocks.lost.has(from)) {
      const inSegment = first - layout.segmentFirstBlock(segment);
      const data = layout.segmentOffset(segment) + layout.segmentHeadBytes(segment);
      const offset = data + inSegment * layout.blockSizeBytes;
      runs.push({ from, end, bytes: member.bytes, offset });
    }
    from = end;
  }
  return runs;
}
