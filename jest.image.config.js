import base from './jest.config.js'

/** Builds the image and runs it (root, Debian's buildah, podman, runc and mmdebstrap); minutes, so a run of its own. */
export default {
  ...base,
  testPathIgnorePatterns: ['/node_modules/'],
  testMatch: ['<rootDir>/test/image/**/*.test.ts'],
  testTimeout: 120_000,
  maxWorkers: 1,
}
