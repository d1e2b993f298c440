import { createLogger } from '../../src/observe/logger.js'

const PASSWORD = 'S3cr"t/pass\\word'

function lineOf(fields: object, message = 'said', secrets: string[] = [PASSWORD]): string {
  let said = ''
  const log = createLogger(
    { level: 'trace', replica: 'r', version: 'v', secrets },
    { write: (line: string) => void (said += line) },
  )
  log.info(fields, message)
  JSON.parse(said) // whatever was taken out, it is a line of JSON
  return said
}

test.each([
  ['at the top', { password: 'abcdef' }],
  ['deep down', { a: { b: [{ c: { 'x-api-key': 'abcdef' } }] } }],
  ['in headers', { req: { headers: { authorization: 'Bearer abcdef', cookie: 'sid=abcdef' } } }],
  ['in a list', { headers: { 'set-cookie': ['abcdef', 'abcdef'] } }],
  ['by other names', { apiKey: 'abcdef', clientSecret: 'abcdef', access_token: 'abcdef', key: 'abcdef' }],
  ['with quotes in it', { token: 'a"b\\"abcdef' }],
  ['as a bearer in a text', { detail: 'sent Bearer abcdef12 to us' }],
  ['as a token in an address', { url: '/events?after=1&token=abcdef' }],
  ['as the password of an address', { url: 'redis://me:abcdef@host:6379/0' }],
  ['as the password of an address, with what should be encoded', { url: 'redis://:ab@abcdef@host:6379' }],
  ['as a JWT', { why: 'bad eyJhbGciOiJI.abcdef.abcdef' }],
  ['as a secret of webhooks', { why: 'bad whsec_abcdef' }],
  ['as a stored key', { why: 'bad tl_0123456789_abcdefghjkmnpqrstvwxyz0123456789' }],
])('a credential %s is not logged', (_where, fields) => {
  expect(lineOf(fields)).not.toContain('abcdef')
})

test('a secret of the configuration is not logged, wherever it stands', () => {
  expect(lineOf({ detail: { text: `x ${PASSWORD} y` } }, `oh ${PASSWORD}`)).not.toMatch(/S3cr|pass.{0,3}word/)
  expect(lineOf({ err: new Error(`refused ${PASSWORD}`, { cause: new Error(PASSWORD) }) })).not.toContain('S3cr')
})

test('of an error of Redis its command is named, never what it was sent', () => {
  const err = Object.assign(new Error('WRONGPASS'), { command: { name: 'auth', args: ['me', 'abcdef'] }, code: 'X' })
  const { err: logged } = JSON.parse(lineOf({ err })) as { err: Record<string, unknown> }
  expect(logged).toMatchObject({ type: 'Error', message: 'WRONGPASS', command: 'auth', code: 'X' })
  expect(JSON.stringify(logged)).not.toContain('abcdef')
  expect(logged['stack']).toContain('logger.test')
})

test('all else is as it was said', () => {
  const fields = { session: 'ses_1', keys: 5, tokens: 7, monkey: 'x', url: 'https://example.com/@me', detail: 'a "b"' }
  expect(JSON.parse(lineOf(fields))).toMatchObject(fields)
})
