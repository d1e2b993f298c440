import base from './jest.config.js'

/** The long trials under load; a run of their own. */
export default {
  ...base,
  testPathIgnorePatterns: ['/node_modules/'],
  testMatch: ['<rootDir>/test/chaos/**/*.test.ts'],
  testTimeout: 200_000,
  maxWorkers: 1,
}
