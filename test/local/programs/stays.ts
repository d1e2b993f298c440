// Does nothing, until its parent has gone.
import { exitWithParent } from '../../../src/local/exit-with-parent.js'

exitWithParent()
setInterval(() => {}, 60_000)
console.log('up')
