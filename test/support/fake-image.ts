/**
 * Images of the fakes: one JSON header of 4096 bytes, then the blocks in X order. Not the real
 * format; like it, the same bytes at any time, and refused when cut or foreign. A real incremental
 * image is recognised and refused as such.
 */
import type { Copy, CopyImage, Images } from '../../src/api/storage-services.ts';
import { uuidv8 } from '../../src/base/clock.ts';
import { sha256 } from '../../src/base/checksum.ts';
import { StorageError } from '../../src/base/errors.ts';
import { FakeCopy } from './fake-copies.ts';

const HEADER_BYTES = 4096;
const MAGIC = 'fake image';

interface Header {
  readonly magic: string;
  readonly capacityBytes: number;
  readonly blockSizeBytes: number;
  readonly sources: readonly number[];
  readonly copyId: string;
}

export function fakeImageBytes(copy: FakeCopy): Buffer {
  const header: Header = {
    magic: MAGIC,
    capacityBytes: copy.sourceCapacityBytes,
    blockSizeBytes: copy.blockSizeBytes,
    sources: copy.sources,
    copyId: copy.id,
  };
  const blocks = copy.sources.map((block) => copy.blocks.get(block)!);
  return Buffer.concat([Buffer.from(JSON.stringify(header).padEnd(HEADER_BYTES)), ...blocks]);
}

export interface FakeImage extends Header {
  readonly blocks: Map<number, Buffer>;
}

/** @throws IMAGE_INVALID, IMAGE_TRUNCATED, BASE_MISSING */
export function readFakeImage(image: Buffer): FakeImage {
  if (image.toString('latin1', 0, 60).includes(', incremental\n')) {
    const details = { reason: 'upload' };
    throw new StorageError('BASE_MISSING', 'the image is incremental', details);
  }
  if (!image.toString('latin1', 0, 20).includes(MAGIC)) {
    throw new StorageError('IMAGE_INVALID', 'this is no image');
  }
  const header = JSON.parse(image.toString('utf8', 0, HEADER_BYTES)) as Header;
  const { sources, blockSizeBytes } = header;
  if (image.length < HEADER_BYTES + sources.length * blockSizeBytes) {
    throw new StorageError('IMAGE_TRUNCATED', 'blocks are missing');
  }
  const blocks = sources.map((source, index): [number, Buffer] => {
    const at = HEADER_BYTES + index * blockSizeBytes;
    return [source, Buffer.from(image.subarray(at, at + blockSizeBytes))];
  });
  return { ...header, blocks: new Map(blocks) };
}

export class FakeImages implements Images {
  of(copy: Copy): CopyImage {
    if (!(copy instanceof FakeCopy)) throw new Error('a copy of other services');
    return {
      imageId: uuidv8(sha256(Buffer.from(copy.id))),
      imageBytes: HEADER_BYTES + copy.usedBlocks * copy.blockSizeBytes,
      async *read(from, to) {
        const image = fakeImageBytes(copy);
        for (let at = from; at < to; at += 100_000) {
          yield image.subarray(at, Math.min(to, at + 100_000));
        }
      },
    };
  }
}
