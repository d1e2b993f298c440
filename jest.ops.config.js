import base from './jest.config.js'

/** Operations under load behind a real proxy, an act a file; a run of its own that prints a table of counts. */
export default {
  ...base,
  testPathIgnorePatterns: ['/node_modules/'],
  testMatch: ['<rootDir>/test/ops/**/*.test.ts'],
  testTimeout: 300_000,
  maxWorkers: 1,
  verbose: false, // else the reporter is not given what acts print
  reporters: ['default', '<rootDir>/test/ops/reporter.js'],
}
