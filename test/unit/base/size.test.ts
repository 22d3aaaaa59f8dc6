import { describe, expect, it } from 'vitest';
import { parseSize } from '../../../src/base/size.ts';

describe('a size as people write it', () => {
  it.each([
    ['0', 0],
    ['512', 512],
    ['512B', 512],
    ['1k', 1000],
    ['1kB', 1000],
    ['1KiB', 1024],
    ['1 Ki', 1024],
    ['10GiB', 10 * 1024 ** 3],
    ['10gib', 10 * 1024 ** 3],
    [' 1TB ', 1e12],
    ['1.5 TiB', 1.5 * 1024 ** 4],
    ['0.5KiB', 512],
    ['7PiB', 7 * 1024 ** 5],
    ['9007199254740991', 2 ** 53 - 1],
  ])('%s is %i bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each([
    '',
    'GiB',
    '-1',
    '1e3',
    '1.',
    '.5k',
    '0.3',
    '1XiB',
    '9007199254740992',
    '9PiB',
    '9'.repeat(30),
    '1 2',
  ])('%s is none', (text) => {
    expect(parseSize(text)).toBeUndefined();
  });
});
