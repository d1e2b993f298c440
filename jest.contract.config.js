import base, { OUTSIDERS } from './jest.config.js'

/** Contracts with programs that are not Node's: SDKs of Python, a browser, schemathesis. `.ci/run` installs what they need. */
export default {
  ...base,
  testPathIgnorePatterns: ['/node_modules/'],
  testMatch: OUTSIDERS.map((path) => `<rootDir>/${path}`),
  testTimeout: 200_000,
  maxWorkers: 2, // these programs compute
}
