/**
 * From bytes to blocks: a byte range as pieces, each within one block.
 *
 * A piece is whole if it covers its block up to the end of the block or of the disk: bytes of the
 * last block beyond the capacity are always zero.
 */

export interface Piece {
  readonly logical: number;
  /** First byte within the block. */
  readonly from: number;
  /** One past the last byte within the block. */
  readonly to: number;
  /** Where the piece begins in the request's bytes. */
  readonly at: number;
  readonly whole: boolean;
}

/** Pieces of [offset, offset + length), ascending; none is empty. */
export function piecesOf(
  offset: number,
  length: number,
  blockSizeBytes: number,
  capacityBytes: number,
): Piece[] {
  const pieces: Piece[] = [];
  const end = offset + length;
  for (let at = offset; at < end;) {
    const logical = Math.floor(at / blockSizeBytes);
    const start = logical * blockSizeBytes;
    const to = Math.min(blockSizeBytes, end - start);
    const full = Math.min(blockSizeBytes, capacityBytes - start);
    const from = at - start;
    pieces.push({ logical, from, to, at: at - offset, whole: from === 0 && to >= full });
    at = start + to;
  }
  return pieces;
}
