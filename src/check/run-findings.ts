/**
 * Findings about blocks, one for each run of consecutive blocks.
 */
import type { Findings, InvariantCode } from './finding.ts';

export class RunFindings {
  readonly #findings: Findings;
  readonly #code: InvariantCode;
  readonly #pool: string;
  readonly #message: (run: string) => string;
  #first = -1;
  #next = -1;

  /** @param message the sentence for `block 7` or `blocks 7 to 9` */
  constructor(
    findings: Findings,
    code: InvariantCode,
    pool: string,
    message: (run: string) => string,
  ) {
    this.#findings = findings;
    this.#code = code;
    this.#pool = pool;
    this.#message = message;
  }

  /** Blocks come ascending. */
  add(block: number): void {
    if (block !== this.#next) {
      this.end();
      this.#first = block;
    }
    this.#next = block + 1;
  }

  /** Reports the last run. */
  end(): void {
    const blocks = this.#next - this.#first;
    if (this.#first < 0) return;
    const run = `block${blocks === 1 ? '' : 's'} ${this.#first}`;
    const message = this.#message(blocks === 1 ? run : `${run} to ${this.#next - 1}`);
    this.#findings.add(this.#code, message, { pool: this.#pool, block: this.#first, blocks });
    this.#first = -1;
    this.#next = -1;
  }
}
