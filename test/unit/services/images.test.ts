import { expect, it } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import { Copiers } from '../../../src/backup/copy-data-job.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { CopyService } from '../../../src/services/copies.ts';
import { ImageService } from '../../../src/services/images.ts';
import { type Engine, openEngine } from '../../support/engine.ts';
import { FaultyFileSystem } from '../../support/faulty-block-file.ts';
import { MemoryMetadata } from '../../support/memory-metadata.ts';

async function world() {
  const store = new MemoryMetadata();
  const engine = await openEngine({ store, fileSystem: new FaultyFileSystem() });
  const files = [{ path: '/p.dat', sizeBytes: 64 * MIB }];
  await engine.pools.create({ name: 'default', files, preallocate: false });
  const { disk } = await engine.disks.create({ name: 'd1', capacityBytes: 32 * MIB });
  for (let at = 0; at < 20 * MIB; at += 4 * MIB) {
    await disk.write(at, new Uint8Array(4 * MIB).fill(1 + at / MIB));
  }
  const copy = await freeze(engine.copies, 'd1', { name: 'monday' });
  return { engine, copy, images: new ImageService(engine.copies) };
}

function service({ copies }: Engine): CopyService {
  const runner = (): never => {
    throw new Error('nothing is filled here');
  };
  return new CopyService(copies, new Copiers({ copies, runner, onError: () => undefined }));
}

async function bytesOf(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of chunks) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

it('an image is the same bytes whole and in parts', async () => {
  const { engine, copy, images } = await world();
  const image = images.of(service(engine).view(copy));
  const whole = await bytesOf(image.read(0, image.imageBytes));
  expect(whole.length).toBe(image.imageBytes);
  const part = await bytesOf(image.read(12_345_678, 12_400_000));
  expect(part.equals(whole.subarray(12_345_678, 12_400_000))).toBe(true);
  expect(images.of(service(engine).get('monday')).imageId).toBe(image.imageId);
});

it('a seventeenth read at once is refused, until one has ended', async () => {
  const { engine, images } = await world();
  const image = images.of(service(engine).get('monday'));
  const reads = Array.from({ length: 17 }, () =>
    image.read(0, image.imageBytes)[Symbol.asyncIterator](),
  );
  const last = reads.pop()!;
  for (const read of reads) await read.next();
  await expect(last.next()).rejects.toMatchObject({ code: 'TOO_MANY_REQUESTS' });
  await reads[0]!.return!();
  const whole = await bytesOf(image.read(0, image.imageBytes));
  expect(whole.length).toBe(image.imageBytes);
  for (const read of reads) await read.return!();
});

it('the image of a copy that was deleted meanwhile cannot be read', async () => {
  const { engine, images } = await world();
  const image = images.of(service(engine).get('monday'));
  await engine.copies.delete('monday');
  await expect(bytesOf(image.read(0, image.imageBytes))).rejects.toMatchObject({
    code: 'NOT_FOUND',
  });
});
