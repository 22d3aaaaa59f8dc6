/**
 * The daemon's settings: flags > environment > one JSON file > defaults, as one typed object.
 *
 * One schema (`Settings`) names every setting once; from its keys come the environment variable
 * (`dataDir` → SPINDLE_DATA_DIR), the flag (`--data-dir`) and the key in the file. Nothing else in
 * the program reads the environment, and no secret is kept anywhere but in `token`.
 *
 * Invariants:
 *  1. Paths are absolute; `roots` has at least one.
 *  2. A host that is not loopback comes with a token.
 */
import { readFileSync } from 'node:fs';
import { delimiter, resolve } from 'node:path';
import { Type } from 'typebox';
import type { Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { errnoOf } from './base/errors.ts';
import { isLoopback } from './base/loopback.ts';
import { parseSize, whyNoSize } from './base/size.ts';
import { GIB, SECTOR_BYTES } from './base/units.ts';

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
type LogLevel = (typeof logLevels)[number];

const closed = { additionalProperties: false } as const;

/** What can be set, as the file spells it. All optional: without any, the daemon serves. */
const Settings = Type.Object(
  {
    dataDir: Type.Optional(
      Type.String({ minLength: 1, description: 'Where the store and the default pool live.' }),
    ),
    host: Type.Optional(Type.String({ minLength: 1, description: 'Address to listen on.' })),
    port: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 65535, description: 'TCP port; 0 takes a free one.' }),
    ),
    poolBytes: Type.Optional(
      Type.Integer({
        minimum: SECTOR_BYTES,
        maximum: Number.MAX_SAFE_INTEGER,
        description: 'Size of the default pool, made on first start.',
      }),
    ),
    roots: Type.Optional(
      Type.Array(Type.String({ minLength: 1 }), {
        minItems: 1,
        description: 'Targets and pools live below these directories.',
      }),
    ),
    devices: Type.Optional(
      Type.Array(Type.String({ minLength: 1 }), {
        description: 'Devices that pools and targets may use.',
      }),
    ),
    metadataCopy: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'File for the regular copy of the metadata; best on another disk.',
      }),
    ),
    tokenFile: Type.Optional(
      Type.String({ minLength: 1, description: 'File that holds the bearer token.' }),
    ),
    salvage: Type.Optional(
      Type.Boolean({
        description: 'Opens the store read-only, also if the metadata are older than the pools.',
      }),
    ),
    logLevel: Type.Optional(Type.Enum(logLevels)),
  },
  closed,
);
type Settings = Static<typeof Settings>;

const checkSettings = Compile(Settings);
const settingNames = Object.keys(Settings.properties);

export interface Config {
  /** Absolute. */
  readonly dataDir: string;
  readonly host: string;
  readonly port: number;
  readonly poolBytes: number;
  /** Absolute; the first one is where relative paths start. */
  readonly roots: readonly string[];
  /** Absolute paths of devices that a pool or target may use. */
  readonly devices: readonly string[];
  /** Absolute file for the regular copy of the metadata; undefined: in the data directory. */
  readonly metadataCopy: string | undefined;
  /** The bearer token, never logged. */
  readonly token: string | undefined;
  /** Read-only, to save what an older database still knows. */
  readonly salvage: boolean;
  readonly logLevel: LogLevel;
}

/** A setting that cannot be used; the message names where it was set. */
export class ConfigError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ConfigError';
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the settings. Reads the configuration file (`--config`, SPINDLE_CONFIG) and the token file.
 * @param flags the arguments behind the program's name, `--port 8470` or `--port=8470`
 * @throws ConfigError with the source and the reason
 */
export function loadConfig(
  flags: readonly string[] = process.argv.slice(2),
  environment: Environment = process.env,
  workingDir: string = process.cwd(),
): Config {
  const given = parseFlags(flags);
  const file = given.get('config') ?? nonEmpty(environment.SPINDLE_CONFIG);
  const fromFile = file === undefined ? {} : readSettings(resolve(workingDir, file));
  const fromEnvironment = settingsOf('environment', (name) => {
    const variable = `SPINDLE_${words(name).join('_').toUpperCase()}`;
    return { text: nonEmpty(environment[variable]), shown: variable };
  });
  const fromFlags = settingsOf('flag', (name) => {
    const flag = words(name).join('-');
    return { text: given.get(flag), shown: `--${flag}` };
  });
  return complete({ ...fromFile, ...fromEnvironment, ...fromFlags }, workingDir);
}

function complete(settings: Settings, workingDir: string): Config {
  const dataDir = resolve(workingDir, settings.dataDir ?? 'data');
  const host = settings.host ?? '127.0.0.1';
  const token =
    settings.tokenFile === undefined
      ? undefined
      : readToken(resolve(workingDir, settings.tokenFile));
  if (token === undefined && !isLoopback(host)) {
    throw new ConfigError(
      `refusing to listen on ${host} without a token: set SPINDLE_TOKEN_FILE to a file that ` +
        'holds one, or listen on 127.0.0.1',
    );
  }
  return {
    dataDir,
    host,
    token,
    metadataCopy:
      settings.metadataCopy === undefined ? undefined : resolve(workingDir, settings.metadataCopy),
    port: settings.port ?? 8470,
    poolBytes: settings.poolBytes ?? 10 * GIB,
    roots: (settings.roots ?? [dataDir]).map((path) => absolute('roots', path)),
    devices: (settings.devices ?? []).map((path) => absolute('devices', path)),
    salvage: settings.salvage ?? false,
    logLevel: settings.logLevel ?? 'info',
  };
}

/** The settings that `find` gives as text, each read as its type in the schema says. */
function settingsOf(
  source: string,
  find: (name: string) => { text: string | undefined; shown: string },
): Settings {
  const values: Record<string, unknown> = {};
  const shownNames = new Map<string, string>();
  for (const name of settingNames) {
    const { text, shown } = find(name);
    shownNames.set(name, shown);
    if (text !== undefined) values[name] = typed(name, text);
  }
  return checked(values, (name) => `${source} ${shownNames.get(name) ?? name}`);
}

/** A text as the type of its setting; what does not fit stays a text and fails the check. */
function typed(name: string, text: string): unknown {
  if (name === 'roots' || name === 'devices') return text.split(delimiter).filter(Boolean);
  if (name === 'salvage' && ['true', '1'].includes(text)) return true;
  if (name === 'salvage' && ['false', '0'].includes(text)) return false;
  if (name === 'poolBytes') return parseSize(text) ?? text;
  if (name === 'port') return /^\d{1,5}$/.test(text) ? Number(text) : text;
  return text;
}

function checked(values: unknown, shown: (name: string) => string): Settings {
  if (checkSettings.Check(values)) return values;
  const [error] = checkSettings.Errors(values);
  const extra =
    error?.keyword === 'additionalProperties' ? error.params.additionalProperties[0] : undefined;
  const extraName = extra ?? (error?.keyword === 'boolean' ? error.instancePath.slice(1) : '');
  if (extraName !== '') throw new ConfigError(`${shown(extraName)}: there is no such setting`);
  const name = error?.instancePath.split('/')[1] ?? '';
  const fault = name === 'poolBytes' ? sizeFault(values) : undefined;
  const reason = fault ?? error?.message ?? 'invalid';
  throw new ConfigError(`${shown(name)}: ${reason}`.replace(' :', ':'));
}

function readSettings(path: string): Settings {
  let values: unknown;
  try {
    values = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    const reason = errnoOf(error) ?? (error instanceof Error ? error.message : 'unreadable');
    throw new ConfigError(`configuration file ${path}: ${reason}`);
  }
  const settings = isRecord(values) ? withSizes(values) : values;
  return checked(settings, (name) => `configuration file ${path}: ${name}`);
}

/** Of a size that was not understood: what is wrong with it. */
function sizeFault(values: unknown): string | undefined {
  const text = isRecord(values) ? values.poolBytes : undefined;
  return typeof text === 'string' ? whyNoSize(text) : undefined;
}

/** The file may spell sizes for people, too. */
function withSizes(values: Record<string, unknown>): Record<string, unknown> {
  const { poolBytes } = values;
  if (typeof poolBytes !== 'string') return values;
  return { ...values, poolBytes: parseSize(poolBytes) ?? poolBytes };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readToken(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw new ConfigError(`token file ${path}: ${errnoOf(error) ?? 'unreadable'}`);
  }
  if (!/^[\x21-\x7e]+$/.test(text)) {
    throw new ConfigError(`token file ${path}: must hold one token of printable ASCII, no spaces`);
  }
  return text;
}

function absolute(name: string, path: string): string {
  if (resolve(path) !== path.replace(/(.)\/+$/, '$1')) {
    throw new ConfigError(`${name}: ${path} is not a plain absolute path`);
  }
  return resolve(path);
}

/** `--name value` and `--name=value`, each at most once. */
function parseFlags(flags: readonly string[]): Map<string, string> {
  const known = new Set(['config', ...settingNames.map((name) => words(name).join('-'))]);
  const found = new Map<string, string>();
  for (let at = 0; at < flags.length; at++) {
    const flag = flags[at] ?? '';
    const [, name = '', inline] = /^--([a-z-]+)(?:=(.*))?$/s.exec(flag) ?? [];
    if (!known.has(name)) throw new ConfigError(`${flag}: there is no such flag`);
    if (found.has(name)) throw new ConfigError(`--${name}: given twice`);
    const value = inline ?? flags[++at];
    if (value === undefined) throw new ConfigError(`--${name}: a value is missing`);
    found.set(name, value);
  }
  return found;
}

/** `dataDir` → data, dir. */
function words(name: string): string[] {
  return name.split(/(?=[A-Z])/).map((word) => word.toLowerCase());
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}
