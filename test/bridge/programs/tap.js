/*
 * Stands between the bridge and a real agent: passes on what both say, names on stderr what the bridge asks for, and hides
 * one capability of sessions: `tap.js HIDDEN COMMAND [ARGS…]`.
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

const [hidden, command, ...args] = process.argv.slice(2)
const agent = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
agent.once('exit', (code) => process.exit(code ?? 1))

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { method } = JSON.parse(line)
    if (method) console.error(`asked for ${method}`)
    agent.stdin.write(`${line}\n`)
  })
  .once('close', () => agent.stdin.end())

createInterface({ input: agent.stdout }).on('line', (line) => {
  const message = JSON.parse(line)
  if (message.result?.agentCapabilities) delete message.result.agentCapabilities.sessionCapabilities?.[hidden]
  process.stdout.write(`${JSON.stringify(message)}\n`)
})
