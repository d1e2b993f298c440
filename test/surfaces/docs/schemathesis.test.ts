import { execFile } from 'node:child_process'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { api, type Posted } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startNetwork } from '../../support/network.js'
import { pythonWith } from '../../support/python.js'
import { completed, text } from '../../support/raw-agent.js'

const here = (name: string) => fileURLToPath(new URL(`schemathesis/${name}`, import.meta.url))

test('generated requests, good and bad, meet no 5xx and nothing that the document does not say', async () => {
  const python = await pythonWith(here('requirements.txt'))
  await using net = await startNetwork({
    env: {
      CLIENT_KEYS: 'alice=key-of-alice',
      TOKEN_SECRET: 'a secret of more than 32 characters',
      WAIT_LIMIT_MS: '1000',
    },
  })
  const agent = await net.rawAgent({ pool: 'coder', capacity: 100 })
  agent.socket.on('turn', ({ request }) => agent.send(request, 1, text('ok'), completed))
  const headers = { authorization: 'Bearer key-of-alice' }
  const { body } = await api<Posted>(net.url(0), '/messages', { pool: 'coder', text: 'x' }, { headers })
  await eventually(() => agent.acks.length > 0)

  const checks = [
    'not_a_server_error',
    'status_code_conformance',
    'content_type_conformance',
    'response_headers_conformance',
    'response_schema_conformance',
    'unsupported_method',
    'ignored_auth',
  ]
  const run = promisify(execFile)(
    python,
    [
      ...['-m', 'schemathesis.cli'],
      'run',
      `${net.url(0)}/api/v1/openapi.json`,
      ...['--header', 'Authorization: Bearer key-of-alice'],
      ...['--checks', checks.join(',')],
      ...['--phases', 'examples,coverage,fuzzing'],
      ...['--max-examples', process.env['API_EXAMPLES'] ?? '5'],
      ...['--request-timeout', '15', '--generation-deterministic', '--no-color'],
    ],
    {
      timeout: 240_000,
      cwd: tmpdir(), // it leaves notes behind
      maxBuffer: 64 * 1024 * 1024,
      env: {
        ...process.env,
        SCHEMATHESIS_HOOKS: 'hooks',
        PYTHONPATH: here(''),
        PYTHONDONTWRITEBYTECODE: '1',
        KNOWN_SESSION: body.session,
        KNOWN_INTERACTION: body.interaction,
      },
    },
  )
  const { stdout, failed } = await run.then(
    ({ stdout }) => ({ stdout, failed: false }),
    (err: { stdout: string; stderr: string; message: string }) => ({
      stdout: `${err.message}\n${err.stdout}\n${err.stderr}`,
      failed: true,
    }),
  )
  if (failed) throw new Error(stdout)
  expect(Number(/(\d+) generated/.exec(stdout)?.[1])).toBeGreaterThan(100)
  expect(net.logged('bug')).toEqual([])
}, 300_000)
