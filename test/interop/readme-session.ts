/**
 * The worked session as the README prints it: its commands, and what it says they answer.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './served.ts';
import type { AnyJson } from './served.ts';

export interface Step {
  readonly command: string;
  /** What the page says is answered; empty if it says nothing. */
  readonly says: string;
}

/** Everything behind the first block (which starts the daemon), in order. */
export function readmeSession(): Step[] {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const [, section = ''] = /^## A worked session$(.*?)^## /ms.exec(readme) ?? [];
  const blocks = [...section.matchAll(/^```sh$(.*?)^```$/gms)].map((found) => found[1] ?? '');
  const lines = blocks.slice(1).join('\n').split('\n');
  const steps: Step[] = [];
  for (const line of lines.filter((text) => text.trim() !== '')) {
    const [command = '', says = ''] = line.split(/(?:^|\s+)# (.*)$/);
    const before = command === '' ? steps.pop() : undefined;
    steps.push(before === undefined ? { command, says } : { command: before.command, says });
  }
  return steps;
}

/** The status that the page promises. */
export function promisedStatus({ says }: Step): number {
  return Number(/^(\d{3})\b/.exec(says)?.[1] ?? 200);
}

const member = /"(\w+)":("(?:[^"\\]|\\.)*"|-?[\d.]+|true|false|null|\[\])?/g;

/**
 * Members that the page promises and the answer does not have. On the page `…` stands for
 * anything: a value, the rest of a text, or further members.
 */
export function brokenPromises({ says }: Step, body: AnyJson): string[] {
  const members: { name: string; value: string }[] = [];
  const collect = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const [name, inner] of Object.entries(value)) {
      members.push({ name, value: JSON.stringify(inner) });
      collect(inner);
    }
  };
  collect(body);
  return [...says.matchAll(member)]
    .filter(([, promised, value]) => {
      const found = members.filter(({ name }) => name === promised);
      return !found.some((kept) => value === undefined || fits(value, kept.value));
    })
    .map(([text]) => text);
}

function fits(promised: string, value: string): boolean {
  const parts = promised.split('…').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`, 's').test(value);
}
