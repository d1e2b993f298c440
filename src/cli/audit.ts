import { operate } from './operator.js'

/** `throughline audit`: what operators did, newest first. Gives the exit code. */
export function showAudit(options: { limit: number; before?: string; json?: boolean }): Promise<number> {
  return operate({}, async (admin) => {
    const entries = await admin.trail(options.limit, options.before)
    if (options.json) for (const entry of entries) console.log(JSON.stringify(entry))
    else
      for (const { at, by, act, target, outcome, detail } of entries)
        console.log([new Date(at).toISOString(), by, act, target, outcome, detail].filter(Boolean).join('  '))
    if (entries.length === options.limit) console.error(`There may be more: --before ${entries.at(-1)!.id}`)
    return 0
  })
}
