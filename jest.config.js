/** What needs more than Node (Python, a browser) or real SDKs as black boxes has a run of its own: `npm run test:contract`. */
export const OUTSIDERS = [
  'test/contract/**/*.test.ts',
  'test/examples/python-agent.test.ts',
  'test/sdk/browser.test.ts',
  'test/security/browser.test.ts',
  'test/surfaces/docs/schemathesis.test.ts',
]
const OUTSIDE = ['test/contract/', ...OUTSIDERS.slice(1)].map((path) => `<rootDir>/${path}`)

/** @type {import('jest').Config} */
export default {
  testEnvironment: 'node',
  roots: ['<rootDir>/test'],
  testPathIgnorePatterns: [
    '/node_modules/',
    '<rootDir>/test/chaos/',
    '<rootDir>/test/agents/',
    '<rootDir>/test/image/',
    '<rootDir>/test/ops/',
    ...OUTSIDE,
  ],
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: { parser: { syntax: 'typescript', explicitResourceManagement: true }, target: 'es2022' },
        module: { type: 'es6' },
      },
    ],
  },
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
  globalSetup: '<rootDir>/test/support/global-setup.ts',
  globalTeardown: '<rootDir>/test/support/global-teardown.ts',
  testTimeout: 60_000,
  maxWorkers: 3, // on two processors: most suites wait for leases, deadlines and outages for a third of their time
}
