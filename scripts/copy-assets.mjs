// tsc copies no Lua: the scripts go beside the code that loads them.
import { chmodSync, cpSync } from 'node:fs'

cpSync('src/store/lua', 'dist/store/lua', { recursive: true })
chmodSync('dist/main.js', 0o755)
