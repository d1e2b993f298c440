/** Signals a whole process group; one that is gone is fine. */
export function killGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal)
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== 'ESRCH' && (err as NodeJS.ErrnoException).code !== 'EPERM') throw err
  }
}

/** SIGTERM to a group, and SIGKILL when its leader has not ended (`exited`) after `graceMs`. */
export async function endGroup(group: number, exited: Promise<unknown>, graceMs: number): Promise<void> {
  killGroup(group, 'SIGTERM')
  const timer = setTimeout(() => killGroup(group, 'SIGKILL'), graceMs)
  await exited
  clearTimeout(timer)
}
