/**
 * Bytes of the fakes: a Map of blocks, none of which is ever changed, only replaced.
 */
export type Blocks = Map<number, Buffer>;

export interface Piece {
  readonly block: number;
  readonly offset: number;
  readonly length: number;
}

export function blocksOf(offset: number, length: number, size: number): Piece[] {
  const pieces: Piece[] = [];
  for (let at = offset; at < offset + length;) {
    const within = at % size;
    const count = Math.min(size - within, offset + length - at);
    pieces.push({ block: Math.floor(at / size), offset: within, length: count });
    at += count;
  }
  return pieces;
}

export function readBlocks(blocks: Blocks, size: number, offset: number, into: Uint8Array): void {
  let at = 0;
  for (const piece of blocksOf(offset, into.length, size)) {
    const block = blocks.get(piece.block);
    const part = into.subarray(at, at + piece.length);
    if (block === undefined) part.fill(0);
    else part.set(block.subarray(piece.offset, piece.offset + piece.length));
    at += piece.length;
  }
}

export function runsOf(ascending: readonly number[]): { block: number; length: number }[] {
  const runs: { block: number; length: number }[] = [];
  for (const block of ascending) {
    const last = runs.at(-1);
    if (last !== undefined && last.block + last.length === block) last.length += 1;
    else runs.push({ block, length: 1 });
  }
  return runs;
}
