import type { Policy } from '../protocol/policy.js'
import type { CoreSettings } from './parts.js'

/** How the turns of a pool are treated: what is set for the pool, else the defaults. '' (unknown): the defaults. */
export const policyOf = (
  { policy, poolPolicies }: Pick<CoreSettings, 'policy' | 'poolPolicies'>,
  pool: string,
): Policy => ({
  ...policy,
  ...poolPolicies[pool],
})
