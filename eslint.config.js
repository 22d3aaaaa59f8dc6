/**
 * The rules that a machine can check. Those about files and folders are in test/tidy.test.ts.
 *
 * There are no inline exceptions (`noInlineConfig`): a rule that does not fit a place is changed
 * here, for everybody, with its reason.
 */
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

const source = ['src/**/*.ts'];
const tests = ['test/**/*.ts'];
const tools = ['bench/**/*.ts', 'scripts/**/*.ts', 'test/crash/**/*.ts'];

/** Style and sizes, everywhere. */
const sizes = {
  'max-lines': ['error', 400],
  'max-lines-per-function': ['error', { max: 70, skipBlankLines: true, skipComments: true }],
  'max-len': ['error', { code: 100, ignoreUrls: true, ignoreRegExpLiterals: true }],
  curly: ['error', 'multi-line'],
  eqeqeq: 'error',
  'no-console': 'error',
  'prefer-const': 'error',
  'no-restricted-exports': ['error', { restrictDefaultExports: { direct: true, named: true } }],
};

const typed = {
  '@typescript-eslint/switch-exhaustiveness-check': [
    'error',
    { considerDefaultExhaustiveForUnions: false, requireDefaultForNonUnion: true },
  ],
  '@typescript-eslint/consistent-type-assertions': ['error', { assertionStyle: 'never' }],
  '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'separate-type-imports' }],
  '@typescript-eslint/no-import-type-side-effects': 'error',
  // Numbers and truth values print the same everywhere; objects and undefined do not.
  '@typescript-eslint/restrict-template-expressions': [
    'error',
    { allowNumber: true, allowBoolean: true, allowNullish: false },
  ],
  '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
  '@typescript-eslint/no-unnecessary-condition': [
    'error',
    { allowConstantLoopConditions: 'only-allowed-literals' },
  ],
  // A column of a row is a key, not a property.
  '@typescript-eslint/dot-notation': ['error', { allowIndexSignaturePropertyAccess: true }],
  // An asynchronous interface may have an implementation that answers at once.
  '@typescript-eslint/require-await': 'off',
  '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
};

const assertionsAllowed = ['error', { assertionStyle: 'as' }];

const clockOnly = 'time and randomness come only through base/clock';
const bannedSyntax = [
  {
    selector: "NewExpression[callee.name='Date'][arguments.length=0]",
    message: clockOnly,
  },
  { selector: "CallExpression[callee.name='Date']", message: clockOnly },
];
const bannedProperties = [
  { object: 'Date', property: 'now', message: clockOnly },
  { object: 'Math', property: 'random', message: clockOnly },
  { object: 'process', property: 'hrtime', message: clockOnly },
  { object: 'performance', property: 'now', message: clockOnly },
];
const bannedEnvironment = {
  object: 'process',
  property: 'env',
  message: 'settings come only through src/config.ts',
};
const bannedImports = {
  paths: [
    {
      name: 'node:crypto',
      importNames: ['randomBytes', 'randomUUID', 'randomInt', 'randomFill', 'randomFillSync'],
      message: clockOnly,
    },
  ],
};

export default defineConfig(
  { ignores: ['dist*/', 'coverage/', 'data/', '.tmp/', 'web/dist/', 'openapi/'] },
  { linterOptions: { noInlineConfig: true } },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: { ...sizes, ...typed },
  },
  {
    files: source,
    rules: {
      'no-bitwise': 'error',
      'no-restricted-syntax': ['error', ...bannedSyntax],
      'no-restricted-properties': ['error', ...bannedProperties, bannedEnvironment],
      'no-restricted-imports': ['error', bannedImports],
    },
  },
  {
    // Bit operators cut to 32 bits, and a logical block has 41: only codecs of bytes may use them.
    files: ['src/base/**', 'src/pool/**', 'src/image/format*', 'src/nbd/**'],
    rules: { 'no-bitwise': 'off' },
  },
  {
    // Where unchecked things become checked ones: branding, and rows of the database.
    files: ['src/base/**', 'src/meta/**'],
    rules: { '@typescript-eslint/consistent-type-assertions': assertionsAllowed },
  },
  {
    files: ['src/base/clock.ts'],
    rules: {
      'no-restricted-syntax': 'off',
      'no-restricted-imports': 'off',
      'no-restricted-properties': ['error', bannedEnvironment],
    },
  },
  {
    files: ['src/config.ts'],
    rules: { 'no-restricted-properties': ['error', ...bannedProperties] },
  },
  {
    files: tests,
    rules: {
      'max-lines-per-function': 'off',
      'no-restricted-properties': ['error', bannedProperties[1]],
      '@typescript-eslint/consistent-type-assertions': assertionsAllowed,
      '@typescript-eslint/no-non-null-assertion': 'off',
      // Bodies of responses and table rows come as they come.
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
    },
  },
  { files: tools, rules: { 'no-console': 'off' } },
  {
    files: ['**/*.js', '**/*.mjs'],
    extends: [tseslint.configs.strict],
    rules: { ...sizes, 'no-console': 'off' },
  },
  { files: ['*.config.js', '*.config.ts'], rules: { 'no-restricted-exports': 'off' } },
);
