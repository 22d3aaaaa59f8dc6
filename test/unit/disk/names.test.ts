import { describe, expect, it } from 'vitest';
import { checkName, Names } from '../../../src/disk/names.ts';

describe('a name', () => {
  it('has 1 to 63 of a few characters, and is no UUID', () => {
    for (const name of ['a', '0', 'a-b.c_d', 'x'.repeat(63)]) {
      checkName(name);
    }
    const uuid = '01890a5d-ac96-774b-bcce-b302099a8057';
    for (const name of ['', 'A', '-a', '.a', 'a b', 'a/b', 'ä', 'x'.repeat(64), uuid, 'a\n']) {
      expect(() => {
        checkName(name);
      }).toThrow('1 to 63');
    }
  });
});

describe('names', () => {
  it('belong to one owner, who is named', () => {
    const names = new Names();
    names.take('a', '1');
    expect(names.ownerOf('a')).toBe('1');
    expect(() => {
      names.take('a', '2');
    }).toThrow(expect.objectContaining({ code: 'NAME_TAKEN', details: { name: 'a', id: '1' } }));
    names.release('a', '2');
    expect(names.ownerOf('a')).toBe('1');
    names.release('a', '1');
    names.take('a', '2');
    expect(names.ownerOf('a')).toBe('2');
  });

  it('are held by a job for what it makes, until it lets them go', () => {
    const names = new Names();
    names.hold('a', 'j1');
    names.hold('a', 'j1');
    const held = expect.objectContaining({ details: { name: 'a', job: 'j1', field: 'disk' } });
    expect(() => {
      names.assertFree('a', { field: 'disk', job: 'j2' });
    }).toThrow(held);
    expect(() => {
      names.take('a', '2');
    }).toThrow('by job j1');
    names.take('a', '1', 'j1');
    const both = expect.objectContaining({ details: { name: 'a', id: '1', job: 'j1' } });
    expect(() => {
      names.take('a', '2');
    }).toThrow(both);
    names.release('a', '1');
    expect(() => {
      names.hold('a', 'j2');
    }).toThrow('by job j1');
    names.holdAgain('a', 'j2');
    names.letGo('j2');
    names.take('a', '1', 'j1');
    names.letGo('j1');
    expect(names.ownerOf('a')).toBe('1');
    names.release('a', '1');
    names.hold('a', 'j2');
  });

  it('are two while an object gets another, and one afterwards', async () => {
    const names = new Names();
    names.take('a', '1');
    names.take('b', '2');
    await names.rename('1', 'a', 'a', () => Promise.resolve());
    const none = (): Promise<never> =>
      Promise.reject(new Error('no work for a name that is taken'));
    await expect(names.rename('1', 'a', 'b', none)).rejects.toMatchObject({ code: 'NAME_TAKEN' });
    const failed = names.rename('1', 'a', 'c', () => {
      expect([names.ownerOf('a'), names.ownerOf('c')]).toEqual(['1', '1']);
      return Promise.reject(new Error('no room'));
    });
    await expect(failed).rejects.toThrow('no room');
    expect([names.ownerOf('a'), names.ownerOf('c')]).toEqual(['1', undefined]);
    expect(await names.rename('1', 'a', 'c', () => Promise.resolve(7))).toBe(7);
    expect([names.ownerOf('a'), names.ownerOf('c')]).toEqual([undefined, '1']);
  });
});
