import base from './jest.config.js'

/** Many agents at once, and what happens to them; a run of its own. Each suite prints its counts. */
export default {
  ...base,
  testPathIgnorePatterns: ['/node_modules/'],
  testMatch: ['<rootDir>/test/agents/**/*.test.ts'],
  testTimeout: 200_000,
  maxWorkers: 1,
}
