import { readdirSync } from 'node:fs'
import { defineConfig } from 'eslint/config'
import { createNodeResolver, importX } from 'eslint-plugin-import-x'
import { createTypeScriptImportResolver } from 'eslint-import-resolver-typescript'
import tseslint from 'typescript-eslint'
import { noTypeCycle } from './scripts/no-type-cycle.js'

/** Who may import whom, `import type` too. What is not named here may not be imported; what has no line imports nothing. */
const SURFACE = ['core', 'auth', 'observe', 'protocol', 'surfaces/http']
const ARROWS = {
  protocol: [],
  store: ['protocol'],
  core: ['store', 'observe', 'protocol'],
  auth: ['protocol'],
  observe: ['protocol'],
  sdk: ['protocol'],
  local: ['protocol', 'store/redis-version.ts'],
  'config.ts': ['protocol'],
  'gateway.ts': ['surfaces', 'core', 'store', 'auth', 'observe', 'protocol', 'config.ts'],
  'admin.ts': ['core', 'store', 'observe', 'protocol', 'config.ts'],
  doctor: ['admin.ts', 'core', 'store', 'protocol', 'config.ts'],
  bridge: ['sdk', 'protocol'],
  cli: ['gateway.ts', 'admin.ts', 'doctor', 'config.ts', 'local', 'sdk', 'bridge', 'auth', 'observe', 'protocol'],
  'main.ts': ['cli', 'local', 'config.ts'],
}

const rooms = [
  ...readdirSync('src').filter((name) => name !== 'surfaces'),
  ...readdirSync('src/surfaces').map((name) => `surfaces/${name}`),
]
const zones = rooms.map((room) => {
  const allowed = room.startsWith('surfaces/') ? SURFACE : (ARROWS[room] ?? [])
  return {
    target: `./src/${room}`,
    from: './src',
    except: [...new Set([room, ...allowed])].map((name) => `./${name}`),
    message: `${room} may import ${allowed.join(', ') || 'nothing of ours'}; see "Rooms and arrows" in docs/architecture.md.`,
  }
})
zones.push({
  target: './src/cli',
  from: './src/cli/serve.ts',
  message: 'serve.ts loads the whole gateway, for which no other command should wait.',
})

const ENV = [{ object: 'process', property: 'env', message: 'Only config.ts reads the environment.' }]
const EXIT = ['exit', 'exitCode'].map((property) => ({
  object: 'process',
  property,
  message: 'Only main.ts decides how the process ends.',
}))

export default defineConfig(
  { ignores: ['dist/', 'coverage/', 'node_modules/'] },
  {
    files: ['**/*.{ts,js,mjs}'],
    extends: [tseslint.configs.recommended],
    plugins: { 'import-x': importX, ours: { rules: { 'no-type-cycle': noTypeCycle } } },
    settings: {
      'import-x/parsers': { '@typescript-eslint/parser': ['.ts'] }, // without it cycles go unreported, silently
      'import-x/extensions': ['.ts', '.js', '.mjs'],
      'import-x/resolver-next': [createTypeScriptImportResolver(), createNodeResolver()],
    },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'import-x/no-cycle': 'error',
      'ours/no-type-cycle': 'error',
      'import-x/no-restricted-paths': ['error', { zones }],
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_', ignoreUsingDeclarations: true, ignoreRestSiblings: true },
      ],
    },
  },
  {
    files: ['{src,test,bench,examples}/**/*.ts'],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
    },
  },
  {
    files: ['src/**/*.ts'],
    rules: {
      'no-console': 'error',
      'no-restricted-properties': ['error', ...ENV, ...EXIT],
      'no-restricted-imports': ['error', { paths: ['process', 'node:process'] }], // the rule above sees the global only
    },
  },
  { files: ['src/config.ts'], rules: { 'no-restricted-properties': ['error', ...EXIT] } },
  { files: ['src/main.ts'], rules: { 'no-console': 'off', 'no-restricted-properties': ['error', ...ENV] } },
  { files: ['src/{cli,local}/**/*.ts'], rules: { 'no-console': 'off', 'no-restricted-properties': 'off' } },
)
