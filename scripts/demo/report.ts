/**
 * What the demo prints: numbered steps, facts with their time, proofs, and the table at the end.
 */
import { styleText } from 'node:util';

const WIDTH = 78;
const KIB = 1024;

type Style = Parameters<typeof styleText>[0];

function styled(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

/** `1.5 GiB`; whole bytes below 1 KiB. */
export function size(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= KIB && unit < units.length - 1) {
    value /= KIB;
    unit++;
  }
  const digits = Number.isInteger(value) || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit] ?? ''}`;
}

export function time(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return ms >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(1)} ms`;
}

export function number(count: number): string {
  return count.toLocaleString('en-US');
}

interface Timed {
  readonly name: string;
  readonly ms: number;
  readonly bytes: number | undefined;
}

export class Report {
  readonly #timed: Timed[] = [];
  #steps = 0;
  #proofs = 0;
  readonly #failures: string[] = [];

  get failures(): readonly string[] {
    return this.#failures;
  }

  headline(text: string): void {
    console.log(`\n${styled('bold', text)}`);
  }

  /** A step begins: what happens, and why that matters. */
  step(title: string, why: string): void {
    this.#steps++;
    console.log(`\n${styled('bold', `${String(this.#steps).padStart(2)}  ${title}`)}`);
    console.log(`    ${styled('dim', why)}`);
  }

  fact(text: string, ms?: number): void {
    const left = `    ${text}`;
    console.log(ms === undefined ? left : `${left.padEnd(WIDTH - 10)}${time(ms).padStart(10)}`);
  }

  /** Runs an act whose time belongs into the table. @param bytes how much it moved, if it moves */
  async timed<T>(name: string, act: () => Promise<T>, bytes?: (result: T) => number): Promise<T> {
    const began = performance.now();
    const result = await act();
    const ms = performance.now() - began;
    this.#timed.push({ name, ms, bytes: bytes?.(result) });
    this.fact(name, ms);
    return result;
  }

  /** Something that must be so. One that is not makes the demo fail, at its end. */
  prove(holds: boolean, text: string): void {
    this.#proofs++;
    if (!holds) this.#failures.push(text);
    console.log(`    ${holds ? styled('green', '✓') : styled('red', '✗ NOT SO:')} ${text}`);
  }

  /** @param facts what was measured beside the times */
  table(facts: readonly (readonly [string, string])[]): void {
    this.headline('In figures');
    for (const [name, value] of facts) console.log(`    ${name.padEnd(36)}${value}`);
    console.log();
    for (const { name, ms, bytes } of this.#timed) {
      const rate = bytes === undefined ? '' : `${size(bytes / (ms / 1000))}/s`;
      console.log(`    ${name.padEnd(53)}${time(ms).padStart(8)}${rate.padStart(15)}`.trimEnd());
    }
  }

  /** The last line. @returns whether everything was so */
  verdict(ms: number): boolean {
    const failed = this.#failures.length;
    if (failed === 0) {
      const text = `All ${this.#proofs} proofs hold. It took ${time(ms)}; nothing is left behind.`;
      console.log(`\n${styled('green', text)}`);
      return true;
    }
    console.log(`\n${styled('red', `${failed} of ${this.#proofs} proofs do not hold:`)}`);
    for (const text of this.#failures) console.log(`  ${text}`);
    return false;
  }
}
