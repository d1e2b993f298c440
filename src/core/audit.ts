import type { AuditEntry } from '../protocol/audit.js'
import { coalesced } from './coalesce.js'
import type { Parts } from './parts.js'

/** Tells the log what operators did: each act once, by one of the replicas. Look again whenever it may have been missed. */
export function auditTeller({ store, observe }: Parts, ended: () => boolean): () => void {
  return coalesced(
    'audit',
    async () => {
      for (;;) {
        const entries = await store.audit.untold()
        if (entries.length === 0) return
        for (const entry of entries) observe.administered(entry)
        await store.audit.told(entries)
      }
    },
    observe,
    ended,
  )
}

/**
 * Does an administrative act and writes it into the audit trail, also when it came to nothing. `work` gives the outcome:
 * `done`, `asked` or a word why not. Throws what `work` throws, unwritten: with Redis away nobody knows what became of it.
 */
export async function audited(
  { store }: Pick<Parts, 'store'>,
  act: Pick<AuditEntry, 'act' | 'target' | 'by' | 'detail'>,
  work: () => Promise<string>,
): Promise<AuditEntry> {
  const outcome = await work()
  return store.audit.add({ ...act, outcome })
}
