import { judge, type Verdict } from './zed/judge.js'
import { STORY } from './zed/story.js'
import { zedTrial, type Outcome } from './zed/trial.js'

/** The failure cases of the reference, by number. */
const ALL_CASES = Array.from({ length: 25 }, (_, i) => i + 1)

test('the story plays every failure case', () => {
  const played = new Set(STORY.flatMap(({ cases }) => cases).concat(5, 17, 20)) // see STORY for those three
  expect(ALL_CASES.filter((n) => !played.has(n))).toEqual([])
})

test('Zed agents while replicas are rolled: every turn ends once and as it must, with exactly what the agent holds', async () => {
  const outcome = await zedTrial(8, (victim) => victim.drain())
  const verdict = report('rolled', outcome)
  expect(verdict.exact + verdict.brokenOff).toBe(verdict.turns)
  expect(verdict.otherEnd).toBe(0)
  expect(verdict.promptsAgain.length).toBeLessThanOrEqual(outcome.disturbances) // to an agent that was not heard for long
})

test('Zed agents while replicas are killed: every turn ends once; only words that were on their way to a killed replica are missing', async () => {
  const outcome = await zedTrial(12, (victim) => victim.kill9())
  const verdict = report('killed', outcome)
  expect(verdict.promptsAgain.length).toBeLessThanOrEqual(outcome.disturbances)
})

/** Prints the counts and demands what both trials have in common. */
function report(how: string, outcome: Outcome): Verdict {
  const { wrong, ...counts } = judge(outcome)
  const { sessions, branches, disturbances } = outcome
  console.log(`zed ${how} ${JSON.stringify({ sessions, branches, disturbances, ...counts, wrong: wrong.length })}`)
  expect(wrong).toEqual([])
  expect(counts.endedOnce).toBe(counts.turns)
  expect(counts.turns).toBeGreaterThanOrEqual(sessions * STORY.length)
  expect(branches).toBeLessThanOrEqual(sessions) // of a conversation that a person opened; drafts make none
  expect(disturbances).toBeGreaterThan(0)
  return { wrong, ...counts }
}
