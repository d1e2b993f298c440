import base from './jest.config.js'

/** Trials of agents that exist, under load and kills; a run of their own that prints its counts. */
export default {
  ...base,
  testPathIgnorePatterns: ['/node_modules/'],
  testMatch: ['<rootDir>/test/agents/**/*.test.ts'],
  testTimeout: 400_000,
  maxWorkers: 1,
}
