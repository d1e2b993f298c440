import { constants } from 'node:fs'
import { open, realpath, type FileHandle } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, relative } from 'node:path'
import {
  RequestError,
  type ReadTextFileRequest,
  type ReadTextFileResponse,
  type WriteTextFileRequest,
  type WriteTextFileResponse,
} from '@agentclientprotocol/sdk'

/** Largest file that is read or written, bytes. */
const MOST_BYTES = 10 * 1024 * 1024

/** The agent's file system requests, within one folder. What lies outside, also by a link, is refused. */
export function clientFiles(root: string) {
  return {
    async read({ path, line, limit }: ReadTextFileRequest): Promise<ReadTextFileResponse> {
      const file = await open(await inside(root, path), constants.O_RDONLY | constants.O_NOFOLLOW).catch(refuse(path))
      try {
        const { size } = await regular(file, path)
        if (size > MOST_BYTES) throw invalid(path, `is larger than ${MOST_BYTES} bytes`)
        const content = await file.readFile('utf8')
        if (line == null && limit == null) return { content }
        const from = Math.max((line ?? 1) - 1, 0)
        return {
          content: content
            .split('\n')
            .slice(from, limit == null ? undefined : from + limit)
            .join('\n'),
        }
      } finally {
        await file.close()
      }
    },

    async write({ path, content }: WriteTextFileRequest): Promise<WriteTextFileResponse> {
      if (Buffer.byteLength(content) > MOST_BYTES) throw invalid(path, `would be larger than ${MOST_BYTES} bytes`)
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW
      const file = await open(await inside(root, path), flags, 0o644).catch(refuse(path))
      try {
        await regular(file, path) // before it is cut: it may be a pipe or a device
        await file.truncate()
        await file.writeFile(content)
        return {}
      } finally {
        await file.close()
      }
    },
  }
}

/** Where a path really leads. Throws when that is not inside the root. A file need not exist, its folder must. */
export async function inside(root: string, path: string): Promise<string> {
  if (!isAbsolute(path)) throw invalid(path, 'is not an absolute path')
  const real = await realpath(path).catch(async (err: NodeJS.ErrnoException) => {
    if (err.code !== 'ENOENT') throw invalid(path, err.code ?? 'cannot be reached')
    // a link that leads nowhere is caught by O_NOFOLLOW
    return join(await realpath(dirname(path)).catch(refuse(path)), basename(path))
  })
  const way = relative(await realpath(root), real)
  if (way === '..' || way.startsWith('../') || isAbsolute(way)) throw invalid(path, 'is outside the working folder')
  return real
}

async function regular(file: FileHandle, path: string): Promise<{ size: number }> {
  const found = await file.stat()
  if (!found.isFile()) throw invalid(path, 'is not a file')
  return { size: found.size }
}

const invalid = (path: string, why: string) => RequestError.invalidParams({ path }, `${path} ${why}`)

const refuse =
  (path: string) =>
  (err: NodeJS.ErrnoException): never => {
    if (err instanceof RequestError) throw err
    if (err.code === 'ENOENT') throw RequestError.resourceNotFound(path)
    throw invalid(path, err.code === 'ELOOP' ? 'is a link' : (err.code ?? err.message))
  }
