import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const openssl = promisify(execFile)

/** An authority of a test's own, by openssl, and what it signs: PEM files that go with it. */
export interface Authority extends AsyncDisposable {
  /** File of its certificate. */
  readonly ca: string
  readonly pem: string
  /** A certificate for these names (`DNS:host`, `IP:127.0.0.1`) that is valid for two days. */
  sign(...names: string[]): Promise<{ cert: string; key: string }>
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']

export async function makeAuthority(): Promise<Authority> {
  const dir = await mkdtemp(join(tmpdir(), 'throughline-test-ca-'))
  const [ca, caKey] = [join(dir, 'ca.pem'), join(dir, 'ca.key')]
  const make = (...args: string[]) => openssl('openssl', ['req', '-x509', ...NEW_KEY, ...args])
  await make('-subj', '/CN=Authority of a test', '-keyout', caKey, '-out', ca)
  let signed = 0
  return {
    ca,
    pem: await readFile(ca, 'utf8'),
    async sign(...names) {
      const at = join(dir, String(++signed))
      const [cert, key] = [`${at}.pem`, `${at}.key`]
      const extensions = [
        '-addext',
        `subjectAltName=${names.join(',')}`,
        '-addext',
        'basicConstraints=critical,CA:FALSE',
      ]
      await make('-subj', '/CN=redis', '-CA', ca, '-CAkey', caKey, '-keyout', key, '-out', cert, ...extensions)
      return { cert, key }
    },
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  }
}
