/**
 * For a process that a supervisor of ours started: leave when the supervisor has gone, even by kill -9. Asks itself to
 * leave in order (SIGTERM) and ends after `limitMs`. Without an IPC channel to a parent it does nothing.
 *
 * It watches the IPC channel and not stdin, because the kernel closes both with the parent, but stdin may also be a
 * terminal, /dev/null or a pipe that somebody else closed, and the channel cannot be mistaken for these.
 */
export function exitWithParent(limitMs = 5_000): void {
  if (!process.channel) return
  process.once('disconnect', () => {
    setTimeout(() => process.exit(1), limitMs).unref()
    process.kill(process.pid, 'SIGTERM')
  })
  process.channel.unref() // to listen must not keep a process up that has nothing else to do
}
