import { clientAuth } from '../../src/auth/client.js'

test('an owner may have two keys, so that one can be changed without a gap', async () => {
  const who = clientAuth({
    keys: [
      { name: 'web', key: 'the-old-key' },
      { name: 'web', key: 'the-new-key' },
    ],
  })
  expect(await who('Bearer the-old-key')).toEqual({ owner: 'web' })
  expect(await who('Bearer the-new-key')).toEqual({ owner: 'web' })
  await expect(who('Bearer another-key')).rejects.toThrow('No valid API key')
})
