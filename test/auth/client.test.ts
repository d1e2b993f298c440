import { clientAuth } from '../../src/auth/client.js'

test('an owner may have two keys, so that one can be changed without a gap', () => {
  const owner = clientAuth([
    { name: 'web', key: 'the-old-key' },
    { name: 'web', key: 'the-new-key' },
  ])
  expect([owner('Bearer the-old-key'), owner('Bearer the-new-key')]).toEqual(['web', 'web'])
  expect(() => owner('Bearer another-key')).toThrow('No valid API key')
})
