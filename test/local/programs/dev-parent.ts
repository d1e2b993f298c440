// Runs `dev` with the options it is given as JSON.
import { fileURLToPath } from 'node:url'

import { dev, type DevOptions } from '../../../src/local/dev.js'

const options = JSON.parse(process.argv[2]!) as Omit<DevOptions, 'mainPath'>
process.exitCode = await dev({ ...options, mainPath: fileURLToPath(new URL('./main.ts', import.meta.url)) })
