/**
 * Files whose calls of one kind wait until the test lets them go on.
 */
import { FaultyFileSystem } from './faulty-block-file.ts';
import { turns } from './jumpy.ts';

type Call = Parameters<FaultyFileSystem['step']>[0];

export class HeldFiles extends FaultyFileSystem {
  #held: Call | undefined;
  #waiting: (() => void)[] = [];

  /** From now on calls of this kind wait. */
  hold(call: Call): void {
    this.#held = call;
  }

  /** Resolves when `count` calls wait. */
  async waiting(count = 1): Promise<void> {
    for (let turn = 0; this.#waiting.length < count; turn += 1) {
      if (turn > 1000) throw new Error(`only ${this.#waiting.length} calls wait`);
      await turns(1);
    }
  }

  /** Lets all that wait go on, and the later ones too. */
  release(): void {
    this.#held = undefined;
    for (const go of this.#waiting.splice(0)) go();
  }

  override async step(call: Call): Promise<void> {
    await super.step(call);
    if (call !== this.#held) return;
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve);
    });
  }
}
