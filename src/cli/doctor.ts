import { examine } from '../doctor/examine.js'
import { version } from './version.js'

/** `throughline doctor`: a line per check, each fault with its cure. Gives 1 when anything failed, else 0. */
export async function doctor({ json }: { json?: boolean }): Promise<number> {
  const findings = await examine(process.env, version)
  if (json) console.log(JSON.stringify(findings))
  else
    for (const { check, status, found, cure } of findings) {
      console.log(`${(status === 'ok' ? status : status.toUpperCase()).padEnd(5)} ${check.padEnd(18)} ${found}`)
      if (cure) console.log(`${' '.repeat(25)}→ ${cure}`)
    }
  const count = (status: string) => findings.filter((it) => it.status === status).length
  if (!json) console.log(`\n${count('ok')} ok, ${count('warn')} to look at, ${count('fail')} wrong`)
  return count('fail') > 0 ? 1 : 0
}
