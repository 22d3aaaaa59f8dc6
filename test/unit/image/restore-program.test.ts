/**
 * The stand-alone restore program: Python's standard library and the format page are all it has.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ImageFrame } from '../../../src/image/format.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { goldenCopy, goldenDisk, goldenImage, goldenNames } from '../../support/golden-images.ts';
import { imageOf, MemoryBytes, MemoryCopy } from '../../support/image-source.ts';

const program = join(import.meta.dirname, '..', '..', '..', 'tools', 'spindle-restore.py');
const blockSize = 16384;
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spindle-restore-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function python(args: readonly string[], input?: Buffer): Ended {
  const options = { cwd: folder, encoding: 'utf8', ...(input && { input }) } as const;
  const { status, stdout, stderr } = spawnSync('python3', args, options);
  return { status, out: stdout, err: stderr };
}

function run(args: readonly string[], input?: Buffer): Ended {
  return python([program, ...args], input);
}

/** Writes a file in the folder of this test. */
function put(name: string, bytes: Buffer): string {
  writeFileSync(join(folder, name), bytes);
  return name;
}

function restored(name = 'disk.raw'): Buffer {
  return readFileSync(join(folder, name));
}

describe.each(goldenNames)('%s', (name) => {
  test('is restored as the disk it was taken of', () => {
    const { capacityBytes } = goldenCopy(name).facts;
    expect(run(['restore', put('image', goldenImage(name)), 'disk.raw']).status).toBe(0);
    const { size, blocks } = statSync(join(folder, 'disk.raw'));
    expect(size).toBe(capacityBytes);
    if (capacityBytes < 2 ** 30) expect(restored().equals(goldenDisk(name))).toBe(true);
    else expect(blocks).toBe(0);
  });

  test('is restored head to end from standard input', () => {
    const copy = goldenCopy(name);
    const { status } = run(['restore', '--compact', '-', 'disk.raw'], goldenImage(name));
    expect(status).toBe(0);
    const blocks = copy.places.map((_, x) => copy.data(x));
    expect(restored().equals(Buffer.concat(blocks))).toBe(
      copy.facts.capacityBytes % blockSize === 0 || copy.places.length > 0,
    );
  });

  test('is proven', () => {
    const { status, out } = run(['verify', '-'], goldenImage(name));
    expect(status).toBe(0);
    const count = goldenCopy(name).places.length;
    expect(out).toBe(`${count} of ${count} blocks are good, 0 problems\n`);
  });
});

test('info tells what the image is', () => {
  const { status, out } = run(['info', put('image', goldenImage('image-v1-small'))]);
  expect(status).toBe(0);
  expect(out).toContain('disk       web-01\n');
  expect(out).toContain('frozen at  2026-01-02T03:04:05.678Z, generation 7\n');
  expect(out).toContain('capacity   82432 bytes\n');
});

test('holes of the disk take no room', async () => {
  const far = new MemoryCopy({ places: [0, 2 ** 25], capacityBytes: 2 ** 40 });
  const image = put('image', await imageOf(far));
  expect(run(['restore', image, 'disk.raw']).status).toBe(0);
  const { size, blocks } = statSync(join(folder, 'disk.raw'));
  expect(size).toBe(2 ** 40);
  expect(blocks * 512).toBeLessThan(2 ** 20);
});

describe('damage', () => {
  const firstBlock = 3 * 4096;
  function damaged(at: number): Buffer {
    const image = Buffer.from(goldenImage('image-v1-small'));
    image[at] = (image[at] ?? 0) ^ 1;
    return image;
  }

  test('stops a restore and leaves no file', () => {
    const { status, err } = run(['restore', put('image', damaged(firstBlock)), 'disk.raw']);
    expect(status).toBe(4);
    expect(err).toContain('1 blocks of segment 0 are damaged');
    expect(existsSync(join(folder, 'disk.raw'))).toBe(false);
  });

  test('is skipped on demand, with the lost range and a status of its own', () => {
    const image = put('image', damaged(firstBlock + blockSize));
    const { status, out } = run(['restore', '--skip-damage', image, 'disk.raw']);
    expect(status).toBe(5);
    expect(out).toMatch(/^lost 32768 16384 exact\n2 of 3 blocks are good, 1 problems\n$/);
    const disk = goldenDisk('image-v1-small');
    disk.fill(0, 2 * blockSize, 3 * blockSize);
    expect(restored().equals(disk)).toBe(true);
  });

  test('of the trailer leaves the image incomplete', () => {
    const image = goldenImage('image-v1-small').subarray(0, -1);
    expect(run(['restore', put('image', image), 'disk.raw']).status).toBe(4);
    expect(run(['restore', '-', 'disk.raw'], image).status).toBe(4);
    expect(existsSync(join(folder, 'disk.raw'))).toBe(false);
  });

  test('of the header is told apart from damage behind it', () => {
    expect(run(['restore', put('image', damaged(2100)), 'disk.raw']).status).toBe(3);
    expect(run(['verify', put('text', Buffer.alloc(9999, 'no image'))]).status).toBe(3);
  });

  test('bytes behind the image are refused', () => {
    const image = Buffer.concat([goldenImage('image-v1-small'), Buffer.alloc(1)]);
    expect(run(['restore', put('image', image), 'disk.raw']).status).toBe(3);
    expect(run(['verify', '-'], image).status).toBe(4);
  });
});

test('an existing file is kept unless it may be replaced', () => {
  const image = put('image', goldenImage('image-v1-small'));
  put('disk.raw', Buffer.from('precious'));
  expect(run(['restore', image, 'disk.raw']).status).toBe(1);
  expect(restored().toString()).toBe('precious');
  expect(run(['restore', '--force', image, 'disk.raw']).status).toBe(0);
  expect(restored().equals(goldenDisk('image-v1-small'))).toBe(true);
});

test('wrong usage and missing files have their own status', () => {
  expect(run(['restore', 'one']).status).toBe(2);
  expect(run(['restore', 'one', 'two', 'three']).status).toBe(2);
  expect(run(['verify', 'nowhere']).status).toBe(1);
  expect(run(['--help']).out).toContain('Exit status:');
});

describe('salvage', () => {
  const name = 'image-v1-two-segments';
  const image = goldenImage(name);
  const disk = goldenDisk(name);
  const { layout } = new ImageFrame(goldenCopy(name).facts);

  test('puts pieces cut anywhere together again, in any order', () => {
    const cuts = [0, 5000, 3_000_001, layout.segmentOffset(1) + 100, image.length];
    const pieces = cuts.slice(1).map((end, index) => {
      const start = cuts[index] ?? 0;
      const file = put(`piece${index}`, image.subarray(start, end));
      return start === 3_000_001 ? `${file}@${start}` : file;
    });
    const { status, out } = run(['restore', '--salvage', ...pieces.reverse(), 'disk.raw']);
    expect(out).toBe('515 of 515 blocks are good, 0 problems\n');
    expect(status).toBe(0);
    expect(restored().equals(disk)).toBe(true);
  });

  test('restores what a piece without the head holds, and names the rest', () => {
    const piece = put('piece', image.subarray(layout.segmentOffset(1)));
    const { status, out } = run(['restore', '--salvage', piece, 'disk.raw']);
    expect(status).toBe(5);
    expect(out).toBe(`lost 0 ${517 * blockSize} within\n3 of 515 blocks are good, 2 problems\n`);
    const expected = Buffer.from(disk);
    expected.fill(0, 0, 517 * blockSize);
    expect(restored().equals(expected)).toBe(true);
  });

  test('finds segments behind bytes that were lost or put in', () => {
    const cut = layout.segmentOffset(0) + 100 * blockSize + 77;
    const shifted = Buffer.concat([
      image.subarray(0, cut),
      Buffer.alloc(12_345, 'x'),
      image.subarray(cut + 20 * blockSize),
    ]);
    const { status, out } = run(['restore', '--salvage', put('image', shifted), 'disk.raw']);
    expect(status).toBe(5);
    const lostFrom = 99 * blockSize; // the head takes half a block: the cut is in X = 99
    const [first, rest] = [`${lostFrom} ${blockSize}`, `${101 * blockSize} ${20 * blockSize}`];
    expect(out).toBe(
      `lost ${first} exact\nlost ${rest} exact\n494 of 515 blocks are good, 1 problems\n`,
    );
    const expected = Buffer.from(disk);
    expected.fill(0, lostFrom, lostFrom + 22 * blockSize);
    expect(restored().equals(expected)).toBe(true);
  });

  test('does not take an image inside the disk for the image itself', async () => {
    const inner = goldenImage('image-v1-small');
    const outer = new MemoryCopy({
      places: [0, 1, 2, 3, 9],
      block: (place, size) =>
        place < 4 ? inner.subarray(place * size, (place + 1) * size) : Buffer.alloc(size, 7),
    });
    const facts = { ...outer.facts, copyId: outer.facts.diskId };
    const nesting = Object.assign(outer, { facts });
    const bytes = await imageOf(nesting);
    const whole = put('image', bytes);
    expect(run(['restore', '--salvage', whole, 'disk.raw']).status).toBe(0);
    expect(restored().subarray(0, inner.length).equals(inner)).toBe(true);
    const headless = put('headless', bytes.subarray(8192 + 4096));
    const { status, err } = run(['restore', '--salvage', whole, headless, 'other.raw']);
    expect(status).toBe(3);
    expect(err).toContain(new ImageFrame(facts).imageId);
    const { imageId } = new ImageFrame(facts);
    const chosen = ['restore', '--salvage', '--image-id', imageId, whole, headless, 'other.raw'];
    expect(run(chosen).status).toBe(0);
    expect(restored('other.raw').subarray(0, inner.length).equals(inner)).toBe(true);
  });
});

/** Runs the program many times in one process: arguments by line, `status N` after each. */
const driver = `
import importlib.util, sys
spec = importlib.util.spec_from_file_location('restore', sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for line in sys.stdin.read().splitlines():
    print('status', module.main(line.split()))
`;

interface Verdict {
  readonly status: number;
  readonly lost: { sourceOffset: number; length: number; exact: boolean }[];
}

function runAll(lines: readonly string[]): Verdict[] {
  const { status, out, err } = python(['-c', driver, program], Buffer.from(lines.join('\n')));
  expect(status, err).toBe(0);
  const parts = out.split(/status (\d)\n/);
  return lines.map((_, index) => {
    const [text = '', code] = parts.slice(2 * index, 2 * index + 2);
    const lost = [...text.matchAll(/^lost (\d+) (\d+) (\w+)$/gm)].map((found) => ({
      sourceOffset: Number(found[1]),
      length: Number(found[2]),
      exact: found[3] === 'exact',
    }));
    return { status: Number(code), lost };
  });
}

describe('spoilt images', () => {
  const copy = new MemoryCopy({ places: [1, 2, 5, 9, 10] });

  async function spoiltImages(): Promise<Buffer[]> {
    const good = await imageOf(copy);
    const images: Buffer[] = Array.from({ length: 120 }, (_, index) => {
      const image = Buffer.from(good);
      const at = (index * 7919 * 13) % image.length;
      const structure = 4096 * (index % 3);
      if (index % 5 === 0) image.writeUInt8(image.readUInt8(at) ^ (1 << (index % 8)), at);
      if (index % 5 === 1) image.fill(index, at, Math.min(at + 6000, image.length));
      if (index % 5 === 2) return image.subarray(0, at);
      if (index % 5 === 3) image.writeUInt8(image.readUInt8(structure) ^ 1, structure);
      if (index % 5 === 4) return Buffer.concat([image.subarray(0, at), image.subarray(at / 2)]);
      return image;
    });
    return [...images, good];
  }

  test('get the same verdict and losses as from verify', async () => {
    const images = await spoiltImages();
    const verdicts = runAll(images.map((image, index) => `verify ${put(`image${index}`, image)}`));
    for (const [index, image] of images.entries()) {
      const { status, lost } = verdicts[index] ?? { status: NaN, lost: [] };
      const result = await verifyImage(new MemoryBytes(image));
      expect(status === 0, `image ${index}`).toBe(result.ok);
      if (status !== 3 && image.length >= 4096) expect(lost).toEqual(result.damaged);
    }
  });

  test('are salvaged without a wrong byte outside of the lost ranges', async () => {
    const images = await spoiltImages();
    const verdicts = runAll(
      images.map((image, index) => {
        const name = put(`image${index}`, image);
        return `restore --salvage ${name} disk${index}.raw`;
      }),
    );
    const disk = Buffer.alloc(copy.facts.capacityBytes);
    for (const [x, place] of copy.places.entries()) copy.data(x).copy(disk, place * blockSize);
    for (const [index, { status, lost }] of verdicts.entries()) {
      expect([0, 3, 5], `image ${index}`).toContain(status);
      expect(existsSync(join(folder, `disk${index}.raw`))).toBe(status !== 3);
      if (status === 3) continue;
      const salvaged = restored(`disk${index}.raw`);
      for (let at = 0; at < disk.length; at += blockSize) {
        const block = salvaged.subarray(at, at + blockSize);
        const isRight = block.equals(disk.subarray(at, at + blockSize));
        const isLost = lost.some(
          (range) => range.sourceOffset <= at && at < range.sourceOffset + range.length,
        );
        expect(isRight || isLost, `image ${index} at ${at}`).toBe(true);
      }
    }
  });
});
