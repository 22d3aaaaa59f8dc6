import { describe, expect, it } from 'vitest';
import { ReaderEpochs } from '../../../src/pool/reader-epochs.ts';
import { turns } from '../../support/jumpy.ts';

describe('a barrier', () => {
  it('without readers is passed at once', async () => {
    await new ReaderEpochs().barrier();
  });

  it('waits for those who entered before it, not for those after', async () => {
    const epochs = new ReaderEpochs();
    const passed: string[] = [];
    const first = epochs.enter();
    void epochs.barrier().then(() => passed.push('one'));
    const second = epochs.enter();
    void epochs.barrier().then(() => passed.push('two'));
    const third = epochs.enter();
    await turns(1);
    expect(passed).toEqual([]);
    epochs.leave(second);
    await turns(1);
    // the first reader entered before both
    expect(passed).toEqual([]);
    epochs.leave(first);
    await turns(1);
    expect(passed).toEqual(['one', 'two']);
    epochs.leave(third);
  });

  it('is not passed while one of several readers is left', async () => {
    const epochs = new ReaderEpochs();
    const readers = [epochs.enter(), epochs.enter()];
    let passed = false;
    void epochs.barrier().then(() => {
      passed = true;
    });
    epochs.leave(readers[0]!);
    await turns(1);
    expect(passed).toBe(false);
    epochs.leave(readers[1]!);
    await turns(1);
    expect(passed).toBe(true);
  });

  it('cannot be left by somebody who did not enter', () => {
    const epochs = new ReaderEpochs();
    const reader = epochs.enter();
    epochs.leave(reader);
    expect(() => {
      epochs.leave(reader);
    }).toThrow('nobody');
  });
});
