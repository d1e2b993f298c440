import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePorts } from '../../src/local/free-port.js'
import { eventually } from './eventually.js'

export const hasNginx = !spawnSync('nginx', ['-v']).error

/** The configuration of compose, as it is in the repository. */
export const nginxConf = readFileSync(
  fileURLToPath(new URL('../../infra/balancer/nginx.conf', import.meta.url)),
  'utf8',
)

/** A real nginx before some ports of loopback. It ends, and its folder goes, when it is disposed of. */
export interface Nginx extends AsyncDisposable {
  readonly url: string
  /** Other ports from now on, by a reload: requests under way stay where they are. Without any, each request is a 502. */
  route(ports: readonly number[]): void
}

/** nginx with the configuration of compose, its upstream servers put on these loopback ports. */
export async function startNginx(ports: readonly number[], text = nginxConf): Promise<Nginx> {
  const [port] = await freePorts(1)
  const conf = folderOf(ports, port!, text)
  const nginx = spawn('nginx', conf.args('-g', 'daemon off;'), { stdio: 'inherit' })
  const gone = once(nginx, 'exit')
  const it = {
    url: `http://127.0.0.1:${port}`,
    route(others: readonly number[]) {
      conf.write(others)
      nginx.kill('SIGHUP')
    },
    async [Symbol.asyncDispose]() {
      nginx.kill('SIGTERM')
      await gone
      conf[Symbol.dispose]()
    },
  }
  try {
    await eventually(() => listens(port!))
    return it
  } catch (err) {
    await it[Symbol.asyncDispose]()
    throw err
  }
}

/** A folder with the configuration, for one port and these upstreams; `args` make nginx live in it. */
export function folderOf(ports: readonly number[], port: number, text = nginxConf) {
  const folder = mkdtempSync(join(tmpdir(), 'throughline-nginx-'))
  chmodSync(folder, 0o755) // as root, nginx works as another user
  const file = join(folder, 'nginx.conf')
  const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  )
  const here = text
    .replace('listen 8080', `listen 127.0.0.1:${port}`)
    .replace('/tmp/nginx.pid', `${folder}/nginx.pid`)
    .replace('worker_processes auto', 'worker_processes 1')
    .replace('http {', `http {\n${temp.join('\n')}`)
  const write = (upstreams: readonly number[]) => {
    writeFileSync(
      `${file}.new`,
      here.replace(UPSTREAMS, (_, indent: string, rest?: string) => serversOf(upstreams, indent, rest)),
    )
    renameSync(`${file}.new`, file)
  }
  write(ports)
  return {
    write,
    args: (...more: string[]) => ['-e', join(folder, 'error.log'), '-p', folder, '-c', file, ...more],
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** The servers of compose, one a line, all with the same parameters. */
const UPSTREAMS = /(?:( +)server gateway-\d:8080( [^;]*)?;\n)+/

function serversOf(ports: readonly number[], indent: string, parameters = ''): string {
  if (ports.length === 0) return `${indent}server 127.0.0.1:9 down;\n` // an upstream needs one
  return ports.map((port) => `${indent}server 127.0.0.1:${port}${parameters};\n`).join('')
}

async function listens(port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.destroy()
}
