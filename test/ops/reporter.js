/** Prints what all acts came to, as a table and, last of all, in one line. */
export default class OpsReporter {
  #acts = []

  onTestResult(_test, { console: said }) {
    for (const { message } of said ?? [])
      for (const [, json] of message.matchAll(/^ops (\{.*\})$/gm)) this.#acts.push(JSON.parse(json))
  }

  onRunComplete(_contexts, { numFailedTestSuites }) {
    const acts = this.#acts
    const columns = [
      'act',
      'seconds',
      'messages',
      'exact',
      'lost',
      'doubled',
      'failed',
      'readers',
      'exactReaders',
      'wrongReader',
      'snapshots',
      'slowestMs',
    ]
    const rows = [columns, ...acts.map((act) => columns.map((column) => String(act[column])))]
    const width = columns.map((_, i) => Math.max(...rows.map((row) => row[i].length)))
    const lines = rows.map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(width[i]) : cell.padStart(width[i]))).join('  '),
    )
    console.log(`\n${lines.join('\n')}\n`)
    for (const { act, seen } of acts)
      for (const [what, times] of Object.entries(seen)) console.log(`seen by clients, ${act}: ${times} × ${what}`)
    const sum = (column) => acts.reduce((total, act) => total + act[column], 0)
    const counts =
      `ops: ${acts.length} acts, ${numFailedTestSuites} red, ${sum('messages')} messages, ${sum('exact')} exact, ` +
      `${sum('lost')} lost, ${sum('doubled')} doubled, ${sum('failed')} failed`
    process.once('exit', () => console.log(counts)) // after jest's own summary
  }
}
