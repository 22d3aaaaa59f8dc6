/** A promise of the daemon that was broken. */
export class Violation extends Error {
  constructor(message: string, facts: Readonly<Record<string, unknown>> = {}) {
    const lines = Object.entries(facts).map(([name, value]) => `\n    ${name}: ${shown(value)}`);
    super(message + lines.join(''));
    this.name = 'Violation';
  }
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
