/**
 * The damaged golden images of test/vectors/damaged.json: both readers and the stand-alone program
 * find just what is written there. How to make them is told in docs/format/image.md.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { addRange } from '../../../src/image/damage.ts';
import type { ImageProblem, LostRange } from '../../../src/image/damage.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { goldenImage } from '../../support/golden-images.ts';
import type { StoredName } from '../../support/golden-images.ts';
import { codeOf, MemoryBytes, readImage, readStream } from '../../support/image-source.ts';
import { restoreProgram } from '../../support/restore-program.ts';
import type { Ended } from '../../support/restore-program.ts';

interface Damaged {
  readonly name: string;
  readonly image: StoredName;
  readonly changes?: readonly { at: number; hex: string; times?: number }[];
  readonly cut?: number;
  readonly append?: string;
  readonly salvage?: readonly [number, number][];
  readonly errors: readonly string[];
  readonly good: number | null;
  readonly lost: readonly [number, number, 'exact' | 'within'][];
}

const path = join(import.meta.dirname, '..', '..', 'vectors', 'damaged.json');
const vectors = JSON.parse(readFileSync(path, 'utf8')) as Damaged[];
const { run, put } = restoreProgram();

function make({ image, changes = [], cut, append = '' }: Damaged): Buffer {
  const bytes = Buffer.from(goldenImage(image));
  for (const { at, hex, times = 1 } of changes) {
    Buffer.from(hex.repeat(times), 'hex').copy(bytes, at);
  }
  return Buffer.concat([bytes.subarray(0, cut), Buffer.from(append, 'hex')]);
}

function lostOf(ranges: readonly LostRange[]): Damaged['lost'] {
  return ranges.map(({ sourceOffset, length, exact }) => {
    return [sourceOffset, length, exact ? 'exact' : 'within'];
  });
}

const order = ['IMAGE_TRUNCATED', 'IMAGE_INVALID', 'IMAGE_DAMAGED', 'IMAGE_UNSUPPORTED'];

/** Each code once. What a cut took away may be called damaged as well, or not. */
function codesOf({ cut }: Damaged, codes: readonly string[]): string[] {
  const harmless = cut === undefined ? undefined : 'IMAGE_DAMAGED';
  return order.filter((code) => codes.includes(code) && code !== harmless);
}

function problemCodes(vector: Damaged, problems: readonly ImageProblem[]): string[] {
  return codesOf(
    vector,
    problems.map(({ code }) => code),
  );
}

const readable = vectors.filter(({ salvage, good }) => salvage === undefined && good !== null);
const unreadable = vectors.filter(({ salvage, good }) => salvage === undefined && good === null);
const salvaged = vectors.filter(({ salvage }) => salvage !== undefined);

test('each damaged image has a name of its own', () => {
  expect(new Set(vectors.map(({ name }) => name)).size).toBe(vectors.length);
});

describe.each(readable)('an image with $name', (vector) => {
  const { errors, good, lost } = vector;

  test('is judged as it is written by random access', async () => {
    const bytes = new MemoryBytes(make(vector));
    const result = await verifyImage(bytes);
    expect(problemCodes(vector, result.problems)).toEqual(errors);
    expect(result.blocks).toBe(good);
    expect(lostOf(result.damaged)).toEqual(lost);
    expect(errors).toContain(await codeOf(() => readImage(bytes, 'fail')));
  });

  test('is judged as it is written in a stream', async () => {
    const image = make(vector);
    const { problems, blocks } = readStream(image, 'skip', [1e6]);
    expect(problemCodes(vector, problems)).toEqual(errors);
    expect(blocks.size).toBe(good);
    const ranges: LostRange[] = [];
    const all = problems.flatMap((problem) => problem.lost);
    all.sort((a, b) => a.sourceOffset - b.sourceOffset); // zero ranges come before the blocks
    for (const range of all) addRange(ranges, range);
    expect(lostOf(ranges)).toEqual(lost);
    expect(errors).toContain(await codeOf(() => readStream(image, 'fail')));
  });

  test('is judged as it is written by the stand-alone program', () => {
    const image = make(vector);
    const found = { errors, good, lost };
    const ended = run(['verify', put('image', image)]);
    const status = errors.includes('IMAGE_INVALID') ? 3 : 4;
    expect({ status: ended.status, ...said(vector, ended) }).toEqual({ status, ...found });
    expect(said(vector, run(['verify', '-'], image))).toEqual(found);
  });
});

describe.each(unreadable)('an image with $name', (vector) => {
  test('is refused with its code by all', async () => {
    const image = make(vector);
    for (const onDamage of ['fail', 'skip'] as const) {
      const random = await codeOf(() => readImage(new MemoryBytes(image), onDamage));
      const streamedCode = await codeOf(() => readStream(image, onDamage));
      expect([random, streamedCode]).toEqual([vector.errors[0], vector.errors[0]]);
    }
    const ended = run(['restore', '--skip-damage', put('image', image), 'disk.raw']);
    expect(ended.status).toBe(vector.errors[0] === 'IMAGE_TRUNCATED' ? 4 : 3);
    expect(said(vector, ended).errors).toEqual(vector.errors);
  });
});

describe.each(salvaged)('salvage of $name', (vector) => {
  const { errors, good, lost, salvage = [] } = vector;

  test(good === null ? 'is refused' : 'gives what is good', () => {
    const image = make(vector);
    const parts = salvage.map(([from, to], index) => {
      return put(`part${index}`, image.subarray(from, to));
    });
    const ended = run(['restore', '--salvage', ...parts, 'disk.raw']);
    if (good === null) expect(ended.status).toBe(3);
    expect(said(vector, ended)).toEqual({ errors, good, lost });
  });
});

/** What the stand-alone program printed. */
function said(vector: Damaged, { out, err }: Ended): Pick<Damaged, 'errors' | 'good' | 'lost'> {
  const lost = [...out.matchAll(/^lost: offset (\d+), (\d+) bytes? \((\w+)\)$/gm)].map((found) => {
    const kind = found[3] === 'exact' ? ('exact' as const) : ('within' as const);
    return [Number(found[1]), Number(found[2]), kind] as const;
  });
  const good = /^(\d+) of \d+ blocks? (?:is|are) good/m.exec(out)?.[1];
  const codes = [...err.matchAll(/IMAGE_\w+/g)].map(([code]) => code);
  return {
    errors: codesOf(vector, codes),
    good: good === undefined ? null : Number(good),
    lost: lost.map((range) => [...range]),
  };
}
